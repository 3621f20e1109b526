"""Any phone or board: one ONNX Runtime model for Android, iOS, Linux and Windows, on the processor.

The graph in ORT format with its weights in it, as minimal builds of ONNX Runtime read it; the operators such a build
must have; how much of it NNAPI and Core ML would take; settings by which it is mapped instead of read. The conversion
leaves constants unfolded: folded, an embedding that is tied to the head is written twice. Options: `mapped` (true:
weights are mapped and not prepacked, which takes a quarter of the memory and other kernels; false: read whole).
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import UnsupportedError
from tasks.kinds.causal_lm.quality import kl_divergence, log_softmax
from tasks.records.base import Support, write_text
from tasks.records.bundles import Check, Compared, Component, Part
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.run.disk import size_bytes
from tasks.targets import answers, bundled
from tasks.targets.base import Defaults, Shipped

DEFAULTS = Defaults(device="android-phone")
OPTIONS = {"mapped": True}
SOURCE, MODEL, OPERATORS, REPORT, SESSION = (
    "model.onnx", "model.ort", "required_operators.config", "coverage.txt", "session.json"
)  # fmt: skip
CONFIG = "genai_config.json"
MAGIC = b"ORTM"  # the flatbuffer's identifier, after its root offset
MAPPED = {
    "session.use_memory_mapped_ort_model": "1",
    "session.use_ort_model_bytes_for_initializers": "1",
    "session.disable_prepacking": "1",
}
SAME = 0.01  # nats: what unfolded constants and other kernels may move predictions by
TIMEOUT_S = 600.0
ROOT = Path(__file__).resolve().parents[3]
ADDR_NO_RANDOMIZE = 0x0040000  # linux/personality.h


@dataclass(frozen=True)
class CrossPlatform:
    """A folder that an app of any system takes in."""

    name: str
    device: str

    def accepts(self, model: ModelProfile, recipe: Recipe) -> Support:
        """Whether it is ONNX Runtime's, in 8 bits: 4-bit kernels are not in builds for phones of every age."""
        if recipe.backend != "onnx":
            return Support(ok=False, reason=f"it is read by ONNX Runtime, not {recipe.backend}")
        if recipe.precision != "int8":
            return Support(ok=False, reason=f"it is shipped in int8, not {recipe.precision}")
        return Support(ok=True, reason="ONNX Runtime reads it on each system")

    def build(self, shipped: Shipped, out: Path) -> tuple[Part, ...]:
        """Write the bundle; raises UnsupportedError where ONNX Runtime does not convert the graph."""
        told = bundled.options(self.name, shipped.options, OPTIONS)
        source = shipped.model / SOURCE
        if not source.is_file():
            raise UnsupportedError(f"{shipped.contents.variant} has no {SOURCE}")
        (out / "model").mkdir()
        _in_process("convert", source, out / "model" / MODEL)
        _in_process("operators", out / "model" / MODEL, out / OPERATORS)
        _in_process("coverage", source, out / REPORT)
        write_text(out / SESSION, json.dumps(MAPPED if told["mapped"] else {}, indent=2) + "\n")
        if (shipped.model / CONFIG).is_file():
            write_text(
                out / "model" / CONFIG, json.dumps(_genai(shipped.model / CONFIG, told["mapped"]), indent=2) + "\n"
            )
        if (shipped.package / "tokenizer").is_dir():
            shutil.copytree(shipped.package / "tokenizer", out / "tokenizer")
        for extra in ("preprocessing.json", "pooling.json"):
            if (shipped.package / extra).is_file():
                shutil.copy2(shipped.package / extra, out / extra)
        bundled.from_templates("cross_platform", out, {"NAME": shipped.name})
        bundled.sign_off(shipped, self.name, out)
        return ledger(out)

    def validate(self, bundle: Path) -> tuple[Check, ...]:
        """The format, that a session opens it with the settings shipped, the operators, and what phones would take."""
        return (
            bundled.check("ORT format", lambda: _format_fault(bundle / "model" / MODEL)),
            bundled.check("ONNX Runtime opens it, mapped as shipped", lambda: _opening_fault(bundle)),
            bundled.check("operators for a minimal build", lambda: _operators_fault(bundle / OPERATORS)),
            bundled.check("coverage by NNAPI and Core ML", lambda: _coverage_fault(bundle / REPORT)),
            bundled.manifest_check(bundle),
            Check(name="a phone", state="not-measured", reason="neither Android nor iOS runs here"),
        )

    def compare(self, shipped: Shipped, bundle: Path) -> Compared:
        """Predictions of the bundled graph beside those of the package's, and what stays resident."""
        engine = "ONNX Runtime on this processor"
        if shipped.contents.family != "tokens":
            return _arrays(engine, shipped, bundle)
        rows = answers.encoded(shipped)
        if not rows:
            return Compared(engine=engine, state="not-measured", reason="there are no texts to compare answers on")
        entries = json.loads((bundle / SESSION).read_text(encoding="utf-8"))
        theirs, _ = run(shipped.model / SOURCE, rows, {})
        ours, memory = run(bundle / "model" / MODEL, rows, entries)
        apart = max(divergence(a, b) for a, b in zip(theirs, ours, strict=True))
        state, words = ("ok", "are those") if apart <= SAME else ("failed", "are not those")
        return Compared.model_validate(
            {
                "engine": engine,
                "state": state,
                "reason": f"next tokens of {len(rows)} texts {words} of the package: KL {apart:.2g} of {SAME:g} nats",
                "answers": len(rows),
                "difference": apart,
                "unit": "nats",
                **memory,
            }
        )


def target(name: str, device: str) -> CrossPlatform:
    """The target called `name`."""
    return CrossPlatform(name, device)


def run(
    model: Path, rows: list[list[int]], entries: Mapping[str, str]
) -> tuple[list[NDArray[np.float32]], dict[str, float]]:
    """Last logits of each row by a fresh process, and what it had resident; raises UnsupportedError where it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "logits.npz"
        said = _python(
            "-m",
            "tasks.targets.onnx_run",
            str(model.resolve()),
            str(out),
            told={"rows": rows, "entries": dict(entries)},
        )
        with np.load(out, allow_pickle=False) as kept:
            return [kept[name] for name in kept.files], json.loads(said.splitlines()[-1])


def divergence(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """KL(reference || other) of the next token, nats, of two rows of logits."""
    return float(kl_divergence(log_softmax(reference[None]), log_softmax(other[None]))[0])


def ledger(bundle: Path) -> tuple[Part, ...]:
    """Sizes by component; ONNX Runtime's own library is the app's: a minimal build has what the list names."""
    weights = (bundle / "model" / MODEL).stat().st_size
    tokenizer = size_bytes(bundle / "tokenizer") if (bundle / "tokenizer").is_dir() else 0
    rest = size_bytes(bundle) - weights - tokenizer
    told: tuple[tuple[Component, str, int], ...] = (
        ("weights", f"model/{MODEL}, graph and embedding in it", weights),
        ("tokenizer", "tokenizer", tokenizer),
        ("metadata", "settings, operators, coverage, manifest", rest),
    )
    return tuple(Part(component=c, name=n, download_bytes=s, installed_bytes=s) for c, n, s in told if s)


def convert(source: Path, out: Path) -> None:
    """Write the graph in ORT format, its constants left as they are."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED  # no layout of one CPU
    options.optimized_model_filepath = str(out)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(
        str(source), options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
    )


def operators(model: Path, out: Path) -> None:
    """Write the operators and types that a minimal build must have for a model in ORT format."""
    from onnxruntime.tools.ort_format_model import create_config_from_models

    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / model.name).symlink_to(model.resolve())
        create_config_from_models([Path(scratch) / model.name], out, enable_type_reduction=True)
    kept = [line for line in out.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    write_text(out, "\n".join(kept) + "\n")  # its heading names a place of this machine


def coverage(source: Path, out: Path) -> None:
    """Write ONNX Runtime's own report of how much of a graph NNAPI and Core ML would take."""
    from onnxruntime.tools.mobile_helpers import usability_checker

    stream = io.StringIO()
    logger = logging.getLogger("coverage")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler(stream))
    logger.propagate = False
    with tempfile.TemporaryDirectory() as scratch:  # it writes beside the model that it reads
        copy = Path(scratch) / "model"
        shutil.copytree(source.parent, copy)
        with contextlib.redirect_stdout(stream):
            usability_checker.analyze_model(copy / source.name, skip_optimize=False, logger=logger)
    lines = [line.rstrip() for line in stream.getvalue().splitlines() if scratch not in line]
    write_text(out, "\n".join(lines) + "\n")


def _in_process(step: str, source: Path, out: Path) -> None:
    """A step in a process of its own, in a folder of one name: what is written depends on names."""
    call = f"from pathlib import Path; from tasks.targets.cross_platform import {step} as step; import sys"
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "in").symlink_to(source.parent.resolve())
        arguments = ("-c", f"{call}; step(Path(sys.argv[1]), Path(sys.argv[2]))", f"in/{source.name}", "made")
        _python(*arguments, folder=Path(scratch))
        made = Path(scratch) / "made"
        if not made.is_file():
            raise UnsupportedError(f"ONNX Runtime wrote no {out.name}")
        shutil.copyfile(made, out)


def _python(*arguments: str, told: Mapping[str, Any] | None = None, folder: Path = ROOT) -> str:
    try:
        environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}  # its lists of operators are sets
        ended = subprocess.run(
            [sys.executable, *arguments], input=json.dumps(told or {}), capture_output=True, text=True, check=False,
            timeout=TIMEOUT_S, cwd=folder, env=environment, preexec_fn=_fixed_addresses,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UnsupportedError(f"ONNX Runtime took longer than {TIMEOUT_S:g} s") from None
    if ended.returncode != 0:
        last = next((line for line in reversed(ended.stderr.splitlines()) if line.strip()), f"code {ended.returncode}")
        raise UnsupportedError(f"ONNX Runtime refused it: {last}")
    return ended.stdout


def _fixed_addresses() -> None:
    """Load a process at the same addresses each time, where the system lets it.

    ONNX Runtime writes names in the order of hash tables whose seed is an address.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE)


def _genai(file: Path, mapped: bool) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    decoder = raw["model"]["decoder"]
    decoder["filename"] = MODEL
    if mapped:
        decoder["session_options"] = decoder.get("session_options", {}) | MAPPED
    return raw


def _arrays(engine: str, shipped: Shipped, bundle: Path) -> Compared:
    import onnxruntime

    both = [shipped.model / SOURCE, bundle / "model" / MODEL]
    sessions = [onnxruntime.InferenceSession(str(one), providers=["CPUExecutionProvider"]) for one in both]
    feeds = {port.name: _example(port) for port in sessions[0].get_inputs()}
    theirs, ours = (one.run(None, feeds) for one in sessions)
    apart = max(float(np.abs(np.asarray(a, np.float64) - b).max()) for a, b in zip(theirs, ours, strict=True))
    spread = max(float(np.std(one)) for one in theirs) or 1.0
    same = apart <= SAME * spread
    words = f"outputs differ by up to {apart:.3g}, {apart / spread:.2%} of their spread"
    return Compared(
        engine=engine, state="ok" if same else "failed", reason=words, answers=1, difference=apart, unit="of an output"
    )


def _example(port: Any) -> NDArray[Any]:
    """Numbers by a seed in an input's form: for tokens small whole ones, else of a standard normal."""
    dice, shape = np.random.default_rng(17), [n if isinstance(n, int) and n > 0 else 2 for n in port.shape]
    if "int64" in port.type or "int32" in port.type:
        kind = np.int64 if "int64" in port.type else np.int32
        return np.ones(shape, kind) if "mask" in port.name else dice.integers(0, 2, shape).astype(kind)
    return dice.standard_normal(shape).astype(np.float16 if "float16" in port.type else np.float32)


def _format_fault(model: Path) -> str:
    with model.open("rb") as stream:
        head = stream.read(8)
    return "" if head[4:8] == MAGIC else f"it begins with {head[4:8]!r}, not {MAGIC!r}: no model in ORT format"


def _opening_fault(bundle: Path) -> str:
    entries = json.loads((bundle / SESSION).read_text(encoding="utf-8"))
    script = (
        "import json, sys, onnxruntime; options = onnxruntime.SessionOptions()\n"
        "for name, value in json.load(sys.stdin).items(): options.add_session_config_entry(name, value)\n"
        "onnxruntime.InferenceSession(sys.argv[1], options, providers=['CPUExecutionProvider'])"
    )
    try:
        _python("-c", script, str((bundle / "model" / MODEL).resolve()), told=entries)
    except UnsupportedError as error:
        return str(error)
    return ""


def _operators_fault(file: Path) -> str:
    """Lines are `domain;opset;operators`; without any the build would run nothing."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith(("!", "#"))]
    if not lines:
        return "it names no operator"
    wrong = next((line for line in lines if line.count(";") < 2), None)
    return f"{wrong!r} is no line of `domain;opset;operators`" if wrong else ""


def _coverage_fault(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    absent = [name for name in ("NNAPI", "CoreML") if name not in text]
    return f"it says nothing of {' and '.join(absent)}" if absent else ""
