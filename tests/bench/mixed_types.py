"""make bench-mixed: types mixed by tensor, beside one recipe of the same size throughout and within a speed.

Two language models: the sample, and one trained here for some minutes. Each uniform recipe of llama.cpp has a rival of
ours that may take as many bytes, and q4_k_m another that must write as fast. Divergences are compared on the same rows,
speeds in one session in turns; the last line is JSON.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tasks.convert import convert
from tasks.evaluate import asked
from tasks.kinds import demands
from tasks.kinds.causal_lm.files import TOKENS
from tasks.kinds.causal_lm.quality import Tokens, ratio_with_se
from tasks.kinds.evaluating import evaluate
from tasks.kinds.table import catalogue
from tasks.measure.benchmarks import Benchmarking
from tasks.params.load import load_params
from tasks.records.artifact import Artifact
from tasks.records.plan import PlanEntry
from tasks.records.scores import ScoreRow
from tasks.run.workspace import Workspace
from tasks.scores.scorecard import scorecard
from tasks.sources.files import Source
from tests.bench import second_model
from tests.bench.harness import BEFORE, Figures, Limit, copy, main, parser, tell, timed

UNIFORM = ("q4_0", "q4_k_m", "q5_0", "q5_k_m")
FAST = "q4_k_m"  # whose speed a variant of ours must have
METHOD, AS_FAST = "mixed-fast", "ours-as-fast"
Z = 1.96
BRIEF = {"sessions": 1, "more_sessions": 1, "rounds": 4, "soak_s": 0.0, "energy": False}
COMMON = {"backend": "gguf", "precision": "int4", "source": "variants/gguf-f16"}
VARIANTS: Mapping[str, Mapping[str, object]] = {
    "torch-fp32": {"backend": "torch", "precision": "fp32", "source": "model", "role": "reference"},
    "gguf-f16": {"backend": "gguf", "precision": "fp16", "source": "model", "role": "rival"},
    "gguf-q8_0": {**COMMON, "precision": "int8", "method": "q8_0"},
    **{f"gguf-{name}": {**COMMON, "method": name} for name in UNIFORM},
}
MODELS = ("sample", second_model.NAME)
LIMITS = {
    name: limit
    for model in MODELS
    for name, limit in (
        (f"{model}/kl_of_uniform", Limit(most=1.0)),  # the upper end of the worst of the pairs
        (f"{model}/decode_of_uniform", Limit(least=0.97)),  # of the slowest of the pairs
        (f"{model}/size_of_uniform", Limit(most=1.01)),
    )
}


def bench(scratch: Path, models: list[str]) -> Figures:
    """Each model in a checkout of its own."""
    figures = Figures()
    for name in models or MODELS:
        model = name if name == "sample" else str(second_model.write(scratch / "second"))
        figures |= {f"{name}/{key}": value for key, value in of_model(copy(scratch / name), model).items()}
    return figures


def of_model(folder: Path, model: str) -> Figures:
    """Uniform recipes, ours at their sizes and at a speed, and how they compare."""
    variants = dict(VARIANTS)
    settle(folder, model, variants)
    for stage in BEFORE:
        if timed(folder, "-m", f"tasks.{stage}") is None:
            return Figures(kl_of_uniform=None, decode_of_uniform=None, size_of_uniform=None)
    os.chdir(folder)
    place = Workspace()
    make(place, variants)
    ours = {f"gguf-{name}": f"ours-like-{name}" for name in UNIFORM}
    for uniform, own in ours.items():
        variants[own] = {**COMMON, "method": METHOD, "bits": round(bits(place, uniform), 4)}
    rows = measured(folder, model, place, variants)
    pace = rows[f"gguf-{FAST}"]["decode_speedup"][0] / rows["gguf-q8_0"]["decode_speedup"][0]
    variants[AS_FAST] = {**COMMON, "method": METHOD, "pace": round(pace, 3)}
    rows = measured(folder, model, place, variants)
    pairs = [*ours.items(), (f"gguf-{FAST}", AS_FAST)]
    return told(place, rows, pairs)


def settle(folder: Path, model: str, variants: Mapping[str, Mapping[str, object]]) -> None:
    """Write the copy's settings: this model, these variants."""
    file = folder / "params.yaml"
    raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    raw["fetch"]["model"], raw["variants"] = model, {name: dict(one) for name, one in variants.items()}
    file.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")


def make(place: Workspace, variants: Mapping[str, Any]) -> None:
    """Convert what is not there yet."""
    params = load_params()
    for name in variants:
        if not place.artifact_record(name).exists():
            made = convert(place, PlanEntry.read(place.plan(name)), params)
            tell(f"{name}: {made.status}, {made.size_mb or 0} MB{'' if made.status == 'ok' else f': {made.reason}'}")


def bits(place: Workspace, variant: str) -> float:
    """Bits per weight over its matrices, scales included."""
    from gguf import GGUFReader

    file = next(place.artifact_files(variant).glob("*.gguf"))
    found = [one for one in GGUFReader(file).tensors if len(one.shape) == 2 and one.name.endswith(".weight")]
    return 8 * sum(int(one.n_bytes) for one in found) / sum(math.prod(map(int, one.shape)) for one in found)


Ends = tuple[float, float]  # a value and the standard error of its logarithm


def measured(folder: Path, model: str, place: Workspace, variants: Mapping[str, Any]) -> dict[str, dict[str, Ends]]:
    """All variants made, scored, and timed in one session in turns."""
    settle(folder, model, variants)
    timed(folder, "-m", "tasks.assess")
    make(place, variants)
    params = load_params()
    params = params.model_copy(update={"benchmark": params.benchmark.model_copy(update=BRIEF)})
    known = catalogue(Source.read(place.source).kind)
    demands.check(known, params)
    entries = {name: PlanEntry.read(place.plan(name)) for name in variants}
    artifacts = {name: Artifact.read(place.artifact_record(name)) for name in entries}
    evaluations = {name: evaluate(place, one, params, asked(known, one, params)) for name, one in entries.items()}
    found, _ = Benchmarking(place, params, entries, artifacts, {}, known.phases, known.deciding).found(list(entries))
    for name, one in found.items():
        if one.status != "ok":
            tell(f"{name} was not timed: {one.reason}")
    card = scorecard(known, params, entries, artifacts, evaluations, found)
    return {row.variant: dict(speeds(row)) for row in card}


def speeds(row: ScoreRow) -> Iterator[tuple[str, Ends]]:
    """Speedups of one variant with the standard error of their logarithms, and its size."""
    for name in ("decode_speedup", "prefill_speedup", "artifact_mb"):
        one = row.metrics.get(name)
        if one is not None and one.value is not None:
            wide = math.log(one.high / one.low) / 2 / Z if one.low and one.high else 0.0
            yield name, (one.value, wide)


def told(place: Workspace, rows: Mapping[str, Mapping[str, Ends]], pairs: list[tuple[str, str]]) -> Figures:
    """Each pair in a line; the worst of each figure."""
    print(f"{'uniform':<14}{'ours':<18}{'KL':>9}{'KL of it [95%]':>24}{'decode of it [95%]':>24}{'size of it':>12}")
    highest, slowest, largest = 0.0, math.inf, 0.0
    for uniform, own in pairs:
        kl, wide = divergence(place, own, uniform)
        decode = between(rows[own]["decode_speedup"], rows[uniform]["decode_speedup"])
        size = rows[own]["artifact_mb"][0] / rows[uniform]["artifact_mb"][0]
        print(
            f"{uniform:<14}{own:<18}{mean_kl(place, own):>9.4f}"
            f"{f'{kl:.3f} [{kl - wide:.3f}, {kl + wide:.3f}]':>24}"
            f"{f'{decode[0]:.3f} [{decode[1]:.3f}, {decode[2]:.3f}]':>24}{size:>12.3f}"
        )
        highest, slowest = max(highest, kl + wide), min(slowest, decode[0])
        largest = largest if own == AS_FAST else max(largest, size)  # of which a speed was asked, and no size
    return Figures(kl_of_uniform=highest, decode_of_uniform=slowest, size_of_uniform=largest)


def divergence(place: Workspace, own: str, uniform: str) -> tuple[float, float]:
    """Our mean divergence as a share of the uniform recipe's on the rows both have, and half of its 95% interval."""
    ours, theirs = (Tokens.load(place.evaluation(name) / TOKENS) for name in (own, uniform))
    ours, theirs = ours.like(theirs), theirs.like(ours)
    ratio, se = ratio_with_se(ours.kl, theirs.kl, ours.row)
    return ratio, Z * (se or math.inf)


def mean_kl(place: Workspace, name: str) -> float:
    """Nats per token."""
    return float(Tokens.load(place.evaluation(name) / TOKENS).kl.mean())


def between(own: Ends, other: Ends) -> tuple[float, float, float]:
    """The ratio of two speedups and its ends, as if they were independent."""
    ratio, wide = own[0] / other[0], Z * math.hypot(own[1], other[1])
    return ratio, ratio * math.exp(-wide), ratio * math.exp(wide)


def command() -> int:
    """Run it."""
    made = parser("bench.mixed_types", __doc__)
    made.add_argument("--model", action="append", default=[], choices=MODELS, help="only these")
    asked_for = made.parse_args().model
    limits = {name: one for name, one in LIMITS.items() if not asked_for or name.split("/")[0] in asked_for}
    tell("each model takes about a quarter of an hour")
    return main("bench-mixed", lambda scratch: bench(scratch, asked_for), limits)


if __name__ == "__main__":
    raise SystemExit(command())
