"""Triton: a model repository for its server.

Language models run in the Python backend over the runtime that was judged, twice: batched, and decoupled for streams.
Any other runs in the ONNX Runtime or OpenVINO backend, as its files are.

Options (`targets.NAME.options`): `slots` (requests of a batch), `context` and `max_tokens` (of a language model's
request), `queue_delay_us` (that a batch waits for more), `queue` and `timeout_ms` (how many wait, and how long),
`instances`, `tensor_parallel` (accelerators; more than one adds the form that vLLM's backend reads), `take_turns` (1:
by Triton's rate limiter one execution at a time, of both forms together).
"""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.errors import ConfigError, UnsupportedError
from tasks.records.base import Support, write_text
from tasks.records.bundles import Check, Compared, Component, Part
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.targets import bundled, greedy, pbtxt
from tasks.targets.base import Defaults, Shipped
from tasks.targets.ports import ports
from tasks.targets.triton import asking, config, server, tensor_split
from tasks.targets.triton.config import FILE, Serving, Tensor

DEFAULTS = Defaults(device="host")
OPTIONS = {
    "slots": 8, "context": 2048, "max_tokens": 256, "queue_delay_us": 20000, "queue": 64, "timeout_ms": 30000,
    "instances": 1, "tensor_parallel": 1, "take_turns": 0,
}  # fmt: skip
MODELS, GPU, VLLM, PACKAGE = "models", "gpu", "vllm", "package"
BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino"}  # of this project -> of Triton, for arrays
PIECE = 256  # tokens of prompts that are read in one step
PYTHON = bundled.TEMPLATES / "triton" / "python"
NUMPY = "numpy==1.26.4"  # the Python backend answers wrongly with NumPy 2
NO_BACKEND = "unable to find backend library"
INPUTS = (Tensor("PROMPT", "str", (1,)), Tensor("MAX_TOKENS", "int32", (1,), optional=True))
OUTPUTS = (Tensor("TEXT", "str", (1,)), Tensor("TOKENS", "int64", (-1,)))


@dataclass(frozen=True)
class Triton:
    """A repository for one server."""

    name: str
    device: str

    def accepts(self, model: ModelProfile, recipe: Recipe) -> Support:
        """Whether a backend of Triton runs the artifact."""
        if recipe.backend not in BACKENDS:
            reason = f"our Triton repository runs artifacts of {', '.join(BACKENDS)}, not of {recipe.backend}"
            return Support(ok=False, reason=reason)
        how = f"its {BACKENDS[recipe.backend]} backend" if model.family == "arrays" else "its Python backend"
        return Support(ok=True, reason=f"Triton runs it in {how}")

    def build(self, shipped: Shipped, out: Path) -> tuple[Part, ...]:
        """Write the repository; raises ConfigError for options, UnsupportedError for a split that is not possible."""
        told = bundled.options(self.name, shipped.options, OPTIONS)
        for name, value in told.items():
            if value < (0 if name in ("queue_delay_us", "queue", "timeout_ms", "take_turns") else 1):
                raise ConfigError(f"targets.{self.name}.options.{name}: {value} is too small; allowed: 1 or more")
        if shipped.contents.backend not in BACKENDS:
            raise UnsupportedError(self.accepts(shipped.profile, shipped.contents.recipe).reason)
        (_arrays if shipped.contents.family == "arrays" else _tokens)(shipped, told, out)
        requirements = sorted({*shipped.contents.requirements, NUMPY})
        write_text(out / "requirements.txt", "".join(f"{one}\n" for one in requirements))
        bundled.from_templates(f"triton/{shipped.contents.family}", out, _words(shipped, told))
        bundled.sign_off(shipped, self.name, out)
        return ledger(out)

    def validate(self, bundle: Path) -> tuple[Check, ...]:
        """Rules of our own over every model, the syntax of Python, and the real server with the repository."""
        own = [bundled.check("config.pbtxt against the fields of ModelConfig", lambda: _repository_fault(bundle))]
        own.append(bundled.check("syntax of Python", lambda: _python_fault(bundle)))
        found = [*own, bundled.manifest_check(bundle), _started(bundle / MODELS)]
        for overlay, needs in ((GPU, "an NVIDIA GPU"), (VLLM, "NVIDIA GPUs and vLLM's backend")):
            if (bundle / overlay).is_dir():
                reason = f"its fields were read and are right; to be started it needs {needs}"
                found.append(Check(name=f"tritonserver with {overlay}/", state="not-measured", reason=reason))
        return tuple(found)

    def compare(self, shipped: Shipped, bundle: Path) -> Compared:
        """Answers of the real server beside the package's, of one caller, of eight at once, and streamed."""
        place = server.found()
        if place is None:
            return Compared(engine=asking.ENGINE, state="not-measured", reason=server.absent())
        if shipped.contents.family == "arrays":
            return asking.arrays(place, shipped, bundle / MODELS / shipped.name)
        return asking.tokens(place, shipped, bundle / MODELS)


def target(name: str, device: str) -> Triton:
    """The target called `name`."""
    return Triton(name, device)


def ledger(bundle: Path) -> tuple[Part, ...]:
    """Sizes by component; the server itself comes in its own image."""
    told: dict[Component, int] = {"weights": 0, "tokenizer": 0, "code": 0, "metadata": 0}
    for file in bundle.rglob("*"):
        if file.is_file():
            told[_component(file)] += file.stat().st_size
    names = {"weights": "the model's files", "tokenizer": "tokenizer and template", "code": "Python of the models",
             "metadata": "configurations, manifests"}  # fmt: skip
    return tuple(
        Part(component=one, name=names[one], download_bytes=size, installed_bytes=size)
        for one, size in told.items()
        if size
    )


def _component(file: Path) -> Component:
    if file.suffix == ".py":
        return "code"
    if file.name in bundled.TOKENIZER or "tokenizer" in file.name:
        return "tokenizer"
    return "weights" if file.suffix in (".bin", ".xml", ".onnx", ".data") else "metadata"


def _tokens(shipped: Shipped, told: Mapping[str, int], out: Path) -> None:
    """The batched model and its streaming twin, over one package that lies beside the repository."""
    shutil.copytree(shipped.model, out / PACKAGE / "model")
    engine, serving = _engine(shipped, told), _serving(told)
    for name, decoupled in ((shipped.name, False), (f"{shipped.name}-stream", True)):
        twin = Serving(slots=0, turns=serving.turns) if decoupled else serving
        _put(out / MODELS / name, name, twin, engine, decoupled)
        version = out / MODELS / name / "1"
        version.mkdir()
        shutil.copyfile(PYTHON / "triton_model.py", version / "model.py")
        shutil.copyfile(PYTHON / f"triton_{shipped.contents.backend}.py", version / "engine.py")
        if shipped.contents.backend == "onnx":  # OpenVINO has no device for these accelerators
            on_gpu = Serving(**vars(twin) | {"kind": "KIND_GPU"})
            _put(out / GPU / name, name, on_gpu, engine | {"provider": "cuda", "properties": {}}, decoupled)
    if told["tensor_parallel"] > 1:
        _split(shipped, told, out / VLLM / shipped.name)


def _put(folder: Path, name: str, serving: Serving, engine: Mapping[str, Any], decoupled: bool) -> None:
    parameters = {"engine": json.dumps(engine, sort_keys=True), "package": f"../../{PACKAGE}"}
    message = config.config(name, "python", INPUTS, OUTPUTS, serving, parameters, decoupled)
    write_text(folder / FILE, pbtxt.written(message))


def _serving(told: Mapping[str, int]) -> Serving:
    return Serving(
        slots=told["slots"],
        delay_us=told["queue_delay_us"],
        queue=told["queue"],
        timeout_us=1000 * told["timeout_ms"],
        instances=told["instances"],
        turns=told["take_turns"] > 0,
    )


def _engine(shipped: Shipped, told: Mapping[str, int]) -> dict[str, Any]:
    """What the model's Python is told; threads follow the machine it starts on."""
    contents = shipped.contents
    return {
        "slots": told["slots"],
        "context": _context(shipped, told),
        "max_tokens": min(told["max_tokens"], _context(shipped, told)),
        "max_num_batched_tokens": PIECE,
        "end_tokens": greedy.end_tokens(shipped.model),
        "properties": greedy.properties(contents),
        "cores_per_thread": 2 if contents.settings.get("threads") == "half" else 1,
    }


def _context(shipped: Shipped, told: Mapping[str, int]) -> int:
    return min(told["context"], shipped.profile.context_length or told["context"])


def _split(shipped: Shipped, told: Mapping[str, int], folder: Path) -> None:
    """vLLM's form, for the checkpoint as it came; raises UnsupportedError for a split that is not possible."""
    found = tensor_split.split(shipped.profile, told["tensor_parallel"])
    if not found.ok:
        raise UnsupportedError(f"tensor_parallel {found.parts}: {found.reason}")
    asked = {
        "model": "/checkpoint",  # where the original model is mounted: files of ONNX Runtime are not split
        "tensor_parallel_size": found.parts,
        "max_model_len": _context(shipped, told),
        "max_num_seqs": told["slots"],
        "gpu_memory_utilization": 0.9,
    }
    write_text(folder / "1" / "model.json", json.dumps(asked, indent=2) + "\n")
    message = {"name": shipped.name, "backend": "vllm",
               "instance_group": [{"count": 1, "kind": pbtxt.Word("KIND_MODEL")}]}  # fmt: skip
    write_text(folder / FILE, pbtxt.written(message))


def _arrays(shipped: Shipped, told: Mapping[str, int], out: Path) -> None:
    """One model in the backend of its files, batched where its first sizes are free."""
    backend = shipped.contents.backend
    shutil.copytree(shipped.model, out / MODELS / shipped.name / "1")
    found, plain = ports(backend, shipped.model), replace(_serving(told), slots=0)
    serving, first = (_serving(told), 1) if found.batched else (plain, 0)
    inputs, outputs = (
        [Tensor(name, kind, sizes[first:] or (1,)) for name, (kind, sizes) in one.items()] for one in found
    )
    parameters = {} if backend == "onnx" else {"TARGET_DEVICE": "CPU"}
    for overlay, kind in ((MODELS, "KIND_CPU"), *([(GPU, "KIND_GPU")] if backend == "onnx" else [])):
        asked = Serving(**vars(serving) | {"kind": kind})
        message = config.config(shipped.name, BACKENDS[backend], inputs, outputs, asked, parameters)
        write_text(out / overlay / shipped.name / FILE, pbtxt.written(message))


def _words(shipped: Shipped, told: Mapping[str, int]) -> dict[str, str]:
    limit = f" {config.RATE_LIMIT}" if told["take_turns"] else ""
    return {"NAME": shipped.name, "VARIANT": shipped.contents.variant, "SLOTS": str(told["slots"]), "LIMIT": limit}


def _repository_fault(bundle: Path) -> str:
    models = sorted(one for one in (bundle / MODELS).iterdir() if one.is_dir())
    if not models:
        return f"{MODELS} has no model"
    whole = [*models, *sorted((bundle / VLLM).glob("*"))]
    faults = [config.model_fault(one) for one in whole]
    faults += [config.config_fault(one) for one in sorted((bundle / GPU).glob("*"))]
    return next((one for one in faults if one), "")


def _python_fault(bundle: Path) -> str:
    for file in sorted(bundle.rglob("*.py")):
        try:
            ast.parse(file.read_text(encoding="utf-8"))
        except SyntaxError as error:
            return f"{file.relative_to(bundle)}, line {error.lineno}: {error.msg}"
    return ""


def _started(repository: Path) -> Check:
    """What the real server says of the repository."""
    place, name = server.found(), asking.ENGINE
    if place is None:
        return Check(name=name, state="not-measured", reason=server.absent())
    said = server.refusal(place, repository)
    if NO_BACKEND in said:
        reason = "it read the configuration; the wheel has no backend but Python's, so it could not load the model"
        return Check(name=name, state="not-measured", reason=reason)
    return Check(name=name, state="failed" if said else "ok", reason=said or "it took the repository and was ready")
