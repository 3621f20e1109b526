"""make bench-kinds: each kind of model by our variants, beside fp32 and what each ecosystem's own one line gives.

The one lines are those of their guides: ONNX Runtime's `quantize_dynamic`, NNCF's `compress_weights` (to int8) and
`nncf.quantize` with the same calibration rows; of language models `olive optimize` and `optimum-cli export openvino`.
All are scored and timed as our variants are, in one session in turns. `--here` takes what the last run here made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tasks.backends.onnx import language
from tasks.backends.onnx.names import CONFIG, FILE
from tasks.backends.openvino.graphs import FILE as OPENVINO_FILE
from tasks.errors import ConfigError
from tasks.evaluate import asked
from tasks.kinds import demands
from tasks.kinds.catalogue import Catalogue, MetricSpec
from tasks.kinds.evaluating import evaluate
from tasks.kinds.table import catalogue, preparing
from tasks.measure.benchmarks import Benchmarking
from tasks.packaging.manifest import listing
from tasks.params.load import load_params
from tasks.records.artifact import Artifact
from tasks.records.base import Support
from tasks.records.model import ModelProfile
from tasks.records.plan import PlanEntry, Recipe
from tasks.records.scores import ScoreRow
from tasks.records.terms import Precision
from tasks.run.disk import size_bytes
from tasks.run.workspace import Workspace
from tasks.scores.scorecard import scorecard
from tasks.sources.files import Source
from tests.bench.harness import Figures, Limit, copy, main, parser, tell, timed

MODELS = {"minilm": "minilm", "digits": "digits", "efficientnet": "efficientnet-lite0", "sample": "sample"}
BRIEF = {"sessions": 1, "more_sessions": 1, "rounds": 2, "soak_s": 0.0, "energy": False}


def ort_dynamic(model: Path, data: Path, out: Path) -> None:
    """ONNX Runtime's one line."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(model / FILE, out / FILE)


def nncf_weights(model: Path, data: Path, out: Path) -> None:
    """NNCF's line for weights."""
    import nncf
    import openvino as ov

    ov.save_model(nncf.compress_weights(ov.Core().read_model(model / FILE)), out / OPENVINO_FILE)


def nncf_full(model: Path, data: Path, out: Path) -> None:
    """NNCF's line for weights and activations, with our calibration rows."""
    import nncf
    import openvino as ov

    rows = [dict(row) for row in preparing(Source.read(model / "source.json").kind).calibration(data).arrays]
    ov.save_model(nncf.quantize(ov.Core().read_model(model / FILE), nncf.Dataset(rows)), out / OPENVINO_FILE)


def olive_optimize(*options: str) -> Callable[[Path, Path, Path], None]:
    """Olive's command for a processor, with our texts in place of the hub's, which may be out of reach."""

    def export(model: Path, data: Path, out: Path) -> None:
        from olive import run

        scratch = out.with_name(f"{out.name}.scratch")
        asked = ["-m", str(model.resolve()), *options, "--exporter", "model_builder"]
        command = [sys.executable, "-m", "olive", "optimize", *asked, "-o", str(scratch)]
        said = ["--provider", "CPUExecutionProvider", "--device", "cpu", "--dry_run", "--save_config_file"]
        subprocess.run([*command, *said, "--disable_telemetry"], check=True, capture_output=True, timeout=600)
        config = json.loads((scratch / "config.json").read_text())
        texts = scratch / "texts.json"
        texts.write_text(json.dumps(preparing("causal-lm").calibration(data).texts))
        ours = language._calibration(model.resolve(), texts)
        for one in config["passes"].values():
            if one["type"] == "Gptq" or "data_config" in one:
                one["data_config"] = ours
            if "calibration_providers" in one:
                one["calibration_providers"] = ["CPUExecutionProvider"]
        os.environ |= {"HF_HUB_OFFLINE": "1", "OLIVE_DISABLE_TELEMETRY": "1"}
        run(config | {"data_configs": [], "cache_dir": str(scratch / "cache")})
        built = next((file.parent for file in scratch.rglob("genai_config.json") if "cache" not in file.parts), None)
        if built is None:
            raise RuntimeError("Olive made no folder for onnxruntime-genai")
        for file in built.iterdir():
            if file.name.startswith((FILE, CONFIG)):
                shutil.move(file, out / file.name)
        for name in language.TOKENIZER:
            if (model / name).is_file():
                shutil.copy2(model / name, out / name)
        shutil.rmtree(scratch)

    return export


def optimum_export(bits: str) -> Callable[[Path, Path, Path], None]:
    """optimum-intel's command."""

    def export(model: Path, data: Path, out: Path) -> None:
        program = Path(sys.executable).with_name("optimum-cli")
        command = [str(program), "export", "openvino", "-m", str(model.resolve()), "--weight-format", bits]
        task = ["--task", "text-generation-with-past", str(out)]
        subprocess.run([*command, *task], check=True, capture_output=True, timeout=1200)

    return export


Exports = Mapping[str, tuple[str, Precision, Callable[[Path, Path, Path], None]]]
OF_ARRAYS: Exports = {
    "their-ort-dynamic": ("onnx", "int8", ort_dynamic),
    "their-nncf-weights": ("openvino", "int8", nncf_weights),
    "their-nncf-quantize": ("openvino", "int8", nncf_full),
}
OF_TOKENS: Exports = {
    "their-olive-int4": ("onnx", "int4", olive_optimize("--precision", "int4")),
    "their-olive-int4-32": ("onnx", "int4", olive_optimize("--precision", "int4", "--block_size", "32")),
    "their-olive-int8": ("onnx", "int8", olive_optimize("--precision", "int8")),
    "their-optimum-int8": ("openvino", "int8", optimum_export("int8")),
    "their-optimum-int4": ("openvino", "int4", optimum_export("int4")),
}
ONE_LINES: Exports = {**OF_ARRAYS, **OF_TOKENS}


def theirs(place: Workspace, name: str) -> PlanEntry:
    """Export by one line; the artifact and its plan entry, or one that says why there is none."""
    backend, precision, export = ONE_LINES[name]
    files = place.artifact_files(name)
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True)
    recipe = Recipe(
        backend=backend, precision=precision, role="candidate", method=name, group_size=0, symmetric=False, ratio=1.0
    )
    here = Support(ok=True, reason="timed on this machine")
    entry = PlanEntry(
        variant=name, action="run", reason="a rival's own line", source="model", recipe=recipe, speed_on_device=here
    )
    try:
        export(place.model, place.data, files)
        made = Artifact(
            variant=name, status="ok", reason="made", command=name, recipe=recipe,
            size_mb=round(size_bytes(files) / 1e6, 2),
        )  # fmt: skip
        listing(files).write(place.artifact_manifest(name))
    except Exception as error:  # noqa: BLE001 - whatever a rival does not take is its result
        made = Artifact(
            variant=name, status="failed", reason=f"{type(error).__name__}: {error}", command=name, recipe=recipe
        )
    made.write(place.artifact_record(name))
    entry.write(place.plan(name))
    return entry


def rows(place: Workspace) -> tuple[Catalogue, tuple[ScoreRow, ...]]:
    """Ours and theirs, scored and timed in one session."""
    params = load_params()
    params = params.model_copy(update={"benchmark": params.benchmark.model_copy(update=BRIEF)})
    known = catalogue(Source.read(place.source).kind)
    demands.check(known, params)
    entries = {name: PlanEntry.read(place.plan(name)) for name in params.variants}
    entries = {name: one for name, one in entries.items() if one.recipe.role != "rival" and one.action == "run"}
    entries = {name: one for name, one in entries.items() if one.speed_on_device.ok}
    lines = OF_TOKENS if ModelProfile.read(place.profile).family == "tokens" else OF_ARRAYS
    entries |= {name: theirs(place, name) for name in lines}
    artifacts = {name: Artifact.read(place.artifact_record(name)) for name in entries}
    evaluations = {name: evaluate(place, one, params, asked(known, one, params)) for name, one in entries.items()}
    timing = Benchmarking(place, params, entries, artifacts, {}, known.phases, known.deciding)
    found, _ = timing.found(list(entries))
    return known, scorecard(known, params, entries, artifacts, evaluations, found)


def columns(known: Catalogue) -> tuple[MetricSpec, ...]:
    """The first figure of quality with a gate, the speedups of the deciding phases, size."""
    quality = next(spec for spec in known.of_source("quality") if spec.gate is not None and spec.column is not None)
    speeds = [ratio for phase in known.deciding if (ratio := known.ratio_of(phase)) is not None]
    return (quality, *speeds, known["artifact_share"])


def value(row: ScoreRow, name: str) -> Any:
    """A figure, or None."""
    metric = row.metrics.get(name)
    return metric.value if metric is not None and metric.state == "measured" else None


def bench(scratch: Path, names: list[str], here: bool) -> Figures:
    """Each model in a checkout of its own, or as it was made here; the best of ours beside the best of theirs."""
    figures = Figures()
    for name in names or MODELS:
        if not here:
            folder = copy(scratch / name)
            if timed(folder, "-m", "flows.run", "--model", MODELS[name]) is None:
                figures[f"{name}/ours"] = None
                continue
            os.chdir(folder)
        elif ModelProfile.read(Workspace().profile).source != MODELS[name]:
            raise ConfigError(
                f"the last run here was of another model than {name}; run `make run MODEL={MODELS[name]}`"
            )
        known, found = rows(Workspace())
        shown = columns(known)
        print(f"{name:<24}" + "".join(f"{spec.title[:20]:>22}" for spec in shown))
        for row in found:
            cells = [value(row, spec.name) for spec in shown]
            print(
                f"{row.variant:<24}" + "".join(f"{'-' if one is None else f'{one:.4g}':>22}" for one in cells), end=""
            )
            print("" if row.status == "ok" else f"  {row.status}: {row.reason[:90]}")
        figures |= best(name, known, found)
    return figures


def best(name: str, known: Catalogue, found: tuple[ScoreRow, ...]) -> Figures:
    """Speed of the fastest that keeps the first gate of quality, ours and theirs, and their ratio."""
    quality, speed = columns(known)[:2]
    limits = {one.spec.name: one for one in demands.limits(known, load_params().gate)}

    def keeps(row: ScoreRow) -> bool:
        own, limit = value(row, quality.name), limits.get(quality.name)
        return own is not None and (limit is None or limit.minimum is None or own >= limit.minimum)

    def fastest(own: bool) -> float | None:
        some = [
            value(row, speed.name)
            for row in found
            if row.role == "candidate" and (row.variant not in ONE_LINES) == own and keeps(row)
        ]
        return max((one for one in some if one is not None), default=None)

    ours, other = fastest(True), fastest(False)
    told = {f"{name}/ours": ours, f"{name}/theirs": other}
    return told | {f"{name}/over_theirs": ours / other if ours is not None and other else None}


LIMITS = {f"{name}/over_theirs": Limit(least=0.95) for name in MODELS}


def command() -> int:
    """Run it."""
    made = parser("bench.kinds", __doc__)
    made.add_argument("--model", action="append", default=[], choices=tuple(MODELS), help="only these")
    made.add_argument("--here", action="store_true", help="take what the last run of this checkout made")
    told = made.parse_args()
    limits = {name: limit for name, limit in LIMITS.items() if not told.model or name.split("/")[0] in told.model}
    tell("each model takes some minutes")
    return main("bench-kinds", lambda scratch: bench(scratch, told.model, told.here), limits)


if __name__ == "__main__":
    raise SystemExit(command())
