"""How often equals are called different, and whether a slowdown of a tenth and a loss of quality are found.

An artifact is timed against itself, and against itself slowed down by a tenth, by the code that times variants. The
reference with one layer disturbed is scored and judged by the code that scores and judges variants. The last line is
JSON.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tasks import gate
from tasks.backends.table import backend
from tasks.hardware import cores
from tasks.kinds import demands
from tasks.kinds.causal_lm import files
from tasks.kinds.causal_lm.figures import counts, figures
from tasks.kinds.causal_lm.rows import EvaluationSet, Prompts
from tasks.kinds.causal_lm.workload import TokensWorkload, workload
from tasks.kinds.table import catalogue
from tasks.measure import guard
from tasks.measure.pairing import beyond
from tasks.measure.requests import MeasureRequest, Opening
from tasks.measure.session import Session, timed_in_turns
from tasks.measure.timing import Times, time_phases
from tasks.measure.workload import Workload
from tasks.params.load import load_params
from tasks.params.pipeline import Params
from tasks.records.artifact import Artifact
from tasks.records.plan import PlanEntry
from tasks.records.quality import Evaluation
from tasks.records.scores import Recommendation
from tasks.records.terms import Outcome
from tasks.run.child import Child, run_child
from tasks.run.workspace import Workspace
from tasks.scores.scorecard import scorecard
from tasks.sources.files import sample_path
from tests.bench import harness
from tests.bench.harness import Figures, Limit, prepared, tell

REFERENCE, SAME, SLOWER = "itself", "same", "slower"
COMPARISONS, SLOWED = 40, 20  # how many of equals, and with one slowed down
AT_ONCE = (4, 2)  # of each, in one timing session
SLOWDOWN = 0.10
FAST = {"repeats": 3, "decode_repeats": 1, "new_tokens": 32}  # of prompts of PROMPT tokens: a short block
PROMPT = 64
ROUNDS = 3  # of each session: six blocks of each in two of them
PHASES = ("decode_tokens_per_s", "prefill_tokens_per_s")
DISTURBED, LARGE_LOSS, SMALL_LOSS = 20, 0.08, 0.005  # models, and shares of the accuracy they lose
LAYER = "model.layers.15.mlp.down_proj.weight"

OF = {
    "speed": {
        **{f"equals_called_different_{phase.split('_')[0]}": Limit(most=COMPARISONS / 20) for phase in PHASES},
        **{f"slowdowns_found_{phase.split('_')[0]}": Limit(least=SLOWED * 0.95) for phase in PHASES},
    },
    "quality": {"large_losses_failed": Limit(least=DISTURBED), "small_losses_failed": Limit(most=0)},
}
LIMITS = OF["speed"] | OF["quality"]


# -- speed -------------------------------------------------------------------------------------------------------------


class Slowed:
    """A session whose every call and token takes a share longer, spent spinning as a slower kernel would."""

    def __init__(self, session: Any, share: float) -> None:
        """Stand before `session`."""
        self._session, self._share = session, share

    def prefill(self, ids: Sequence[int]) -> None:
        """Process the prompt, and wait."""
        began = time.perf_counter()
        self._session.prefill(ids)
        self._spin(time.perf_counter() - began)

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: Callable[[int], None] | None = None) -> list[int]:
        """Continue, and wait after each token."""
        last = time.perf_counter()

        def later(token: int) -> None:
            nonlocal last
            self._spin(time.perf_counter() - last)
            if on_token:
                on_token(token)
            last = time.perf_counter()

        made: list[int] = self._session.generate(ids, new_tokens, later)
        return made

    def _spin(self, took: float) -> None:
        until = time.perf_counter() + self._share * took
        while time.perf_counter() < until:
            pass

    def __getattr__(self, name: str) -> Any:
        """Everything else is the session's own."""
        return getattr(self._session, name)


class SlowRequest(MeasureRequest):
    """Time an artifact whose session is slowed down."""

    slowdown: float


def measure_slower(request: SlowRequest) -> Times:
    """Time a runtime that is slowed down (in the child)."""
    opening = request.opening

    def load() -> Workload:
        work = workload(opening, request.data, request.settings, request.brief)
        assert isinstance(work, TokensWorkload)
        work.session = Slowed(work.session, request.slowdown)
        return work

    return time_phases(backend(opening.backend).import_runtime, load, request.tell_runtime)


def compare_speeds(folder: Path, params: Params) -> dict[str, float]:
    """Time the sample's own GGUF against itself and against itself slowed down; how many of each were called so."""
    artifact = folder / "artifact"
    artifact.mkdir()
    (artifact / "model.gguf").symlink_to(sample_path())
    prompts = Prompts.read(Workspace(folder / "artifacts").data / files.PROMPTS)
    called = dict.fromkeys(OF["speed"], 0)
    sessions = COMPARISONS // AT_ONCE[0]
    for number in range(sessions):
        session = _session(folder, artifact, prompts, params, number)
        for phase in PHASES:
            short = phase.split("_")[0]
            verdicts = {name: _verdict(session, name, phase) for name in session.timings if name != REFERENCE}
            called[f"equals_called_different_{short}"] += sum(
                verdict != "equal" for name, verdict in verdicts.items() if name.startswith(SAME)
            )
            called[f"slowdowns_found_{short}"] += sum(
                verdict == "slower" for name, verdict in verdicts.items() if name.startswith(SLOWER)
            )
        tell(f"session {number + 1} of {sessions}: {', '.join(f'{name} {count}' for name, count in called.items())}")
    return {name: float(count) for name, count in called.items()}


def _session(folder: Path, artifact: Path, prompts: Prompts, params: Params, number: int) -> Session:
    settings = params.benchmark.model_copy(update={"rounds": ROUNDS, **FAST})
    threads, data = cores.threads(params.benchmark.threads), folder / "short"
    Prompts(short=tuple(ids[:PROMPT] for ids in prompts.short), long=tuple(ids[:PROMPT] for ids in prompts.long)).write(
        data / files.PROMPTS
    )
    opening = Opening(kind="causal-lm", backend="gguf", artifact=artifact, threads=threads)
    request = MeasureRequest(opening=opening, data=data, settings=settings, brief=True)
    others = [f"{SAME}-{i}" for i in range(AT_ONCE[0])] + [f"{SLOWER}-{i}" for i in range(AT_ONCE[1])]

    def block(name: str, first: bool, brief: bool) -> Times:
        work, asked = "tasks.kinds.measuring:measure_time", request
        if name.startswith(SLOWER):
            work = "tests.bench.noise_floor:measure_slower"
            asked = SlowRequest(opening=opening, data=data, settings=settings, brief=True, slowdown=SLOWDOWN)
        log = Workspace(folder / "artifacts").logs / f"aa-{name}.log"
        return run_child(Child(work, asked, settings.limits, log, name, threads, timed=True), Times)

    known = catalogue()
    return timed_in_turns(Session(REFERENCE, known.phases, known.deciding), others, block, settings, seed=2 * number)


def _verdict(session: Session, name: str, phase: str) -> str:
    """What the figures of one variant say; `undecided` counts as a wrong answer, as no comparison was made."""
    found = session.paired(name).get(phase)
    if found is None:
        return "undecided"
    interval = beyond(found.low, found.high, found.floor)
    return "slower" if interval.high < 1 else "faster" if interval.low > 1 else "equal"


# -- quality -----------------------------------------------------------------------------------------------------------


def compare_qualities(folder: Path, params: Params) -> dict[str, float]:
    """Judge the reference with one layer disturbed, much and a little; how many of each failed the quality gates."""
    model = Disturbed(folder, cores.shared_threads())
    failed = {}
    for name, loss in (("large_losses_failed", LARGE_LOSS), ("small_losses_failed", SMALL_LOSS)):
        strength = model.strength_of(loss)
        outcomes = [model.outcome(params, seed, strength) for seed in range(DISTURBED)]
        failed[name] = float(outcomes.count("fail"))
        counts = ", ".join(f"{outcomes.count(o)} {o}" for o in ("pass", "inconclusive", "unreachable", "fail"))
        tell(f"a loss of {loss:.1%} (noise of {strength:.3f} of the layer's own spread): {counts}")
    return failed


class Disturbed:
    """The reference model, whose layer gets noise of a given strength, scored as variants are."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Load the model, the rows, and what the reference made of them."""
        import numpy as np

        from tasks.backends import torch
        from tasks.kinds.causal_lm.quality import Tokens

        self._session = torch.scorer(Workspace(folder / "artifacts").model, threads)
        self._weight = dict(self._session._model.named_parameters())[LAYER]
        self._kept = self._weight.detach().clone()
        data = EvaluationSet.read(Workspace(folder / "artifacts").data / files.EVALUATION)
        self._rows = data.rows[: data.looks[-2] if len(data.looks) > 1 else None]
        self._reference = Tokens.load(Workspace(folder / "artifacts").reference / files.TOKENS)
        self._logprobs = np.load(Workspace(folder / "artifacts").reference / files.LOGPROBS, mmap_mode="r")

    def quality(self, seed: int, strength: float) -> Any:
        """Figures of the disturbed model against the reference."""
        import torch

        from tasks.kinds.causal_lm.quality import score_rows, summarise

        noise = torch.randn(self._kept.shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            self._weight.copy_(self._kept + strength * self._kept.std() * noise)
        scored = score_rows(self._session, [row.ids for row in self._rows], self._logprobs)
        return summarise(scored, self._reference.like(scored))

    def strength_of(self, loss: float, tries: int = 7) -> float:
        """The strength at which seed 0 loses this share of the accuracy, by halving an interval in the logarithm."""
        low, high = 0.01, 30.0
        for _ in range(tries):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if 1 - self.quality(0, middle).retention < loss else (low, middle)
        return float((low * high) ** 0.5)

    def outcome(self, params: Params, seed: int, strength: float) -> Outcome:
        """The verdict of the quality gates."""
        return judged(params, self.quality(seed, strength))


def judged(params: Params, quality: Any) -> Outcome:
    """The verdict of the gates on retention, perplexity and divergence over these figures."""
    name = next(n for n, variant in params.variants.items() if variant.role == "candidate")
    entry = PlanEntry.read(Workspace().plan(name))
    evaluation = Evaluation(
        variant=name, status="ok", reason="", command="", reference=params.reference,
        figures=figures(quality, None), counts=counts(quality, None),
    )  # fmt: skip
    made = Artifact(variant=name, status="ok", reason="", command="", recipe=entry.recipe, size_mb=1.0)
    rows = scorecard(catalogue(), params, {name: entry}, {name: made}, {name: evaluation}, {})
    off = {limit.spec.name: None for limit in demands.limits(catalogue(), params.gate) if limit.spec.interval != "rows"}
    only = params.model_copy(update={"gate": params.gate | off})
    found = Recommendation(reference=params.reference, rows=rows, front=(), ranking=(), reason="")
    return gate.gate(only, found).verdicts[0].outcome


# -- the command -------------------------------------------------------------------------------------------------------


def bench(scratch: Path, parts: Sequence[str]) -> Figures:
    """Prepare model, data and reference in a fresh copy, and compare there."""
    folder = prepared(scratch / "aa")
    if folder is None:
        return dict.fromkeys(LIMITS)
    figures: Figures = {}
    with contextlib.chdir(folder):
        params = load_params()
        if "speed" in parts:
            with guard.device_to_itself():
                figures |= compare_speeds(folder, params)
        if "quality" in parts:
            figures |= compare_qualities(folder, params)
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Run `make bench-aa`; exit code 1 when a limit is not kept."""
    made = harness.parser("bench.noise_floor", __doc__)
    made.add_argument("--only", choices=tuple(OF), help="one half of the comparisons")
    only = made.parse_args(argv).only
    parts = (only,) if only else tuple(OF)
    limits = {name: limit for part in parts for name, limit in OF[part].items()}
    return harness.main("bench-aa", lambda scratch: bench(scratch, parts), limits)


if __name__ == "__main__":
    raise SystemExit(main())
