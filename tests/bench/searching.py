"""make bench-search: ways to search, replayed with many seeds over spaces that were measured whole, once.

`--record NAME` keeps what the last search measured as a space of that name: run one to its end before, by chance
(`edgewright search --strategy random --within 4h`). A replay draws each figure anew within its interval, and takes the
seconds that were measured. A full evaluation is one that was timed: what is cut or given up before costs less.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tasks.kinds.table import catalogue
from tasks.params.load import load_params
from tasks.params.pipeline import Bound, Variant
from tasks.records.search import Figure, Found, Rung, Step, Trial
from tasks.search.coordinator import Coordinator
from tasks.search.strategies import BySurrogate
from tasks.search.study import InMemory, opened
from tasks.search.wishes import Wishes, wishes
from tasks.sources.files import Source
from tasks.trials import GLANCE
from tests import ROOT
from tests.bench.harness import Figures, Limit, parser, tell
from tests.bench.harness import main as harness_main
from tests.bench.rival_searches import RIVALS

RECORDED = Path(__file__).with_name("recorded")
NEAR = 0.95  # of the best objective
SHARE = 0.15  # of the full evaluations
SEEDS = 200
KILLS = 20
LONGER = 3  # sessions that leaders are timed again in, where one was
AT_ONCE: Mapping[Rung, int] = {"made": 2, "glanced": 4, "scored": 2, "timed": 2}
OURS = "ours"
OBJECTIVES = {
    "causal-lm": ("weights", "decode"),
    "text-encoder": ("weights", "throughput"),
    "image-classifier": ("weights", "throughput"),
}
LIMITS = {
    "ours_reached": Limit(least=0.95), "ours_full_share": Limit(most=SHARE), "false_best": Limit(most=0.05),
    "lost_or_twice": Limit(most=0),
}  # fmt: skip


@dataclass(frozen=True)
class Space:
    """A space that was measured whole."""

    name: str
    kind: str
    gate: Mapping[str, Bound]
    weights: Mapping[str, float]
    trials: tuple[Trial, ...]

    @property
    def candidates(self) -> dict[str, Variant]:
        """Recipes by name."""
        return {one.name: Variant.model_validate(one.variant) for one in self.trials}

    def asked(self, objective: str) -> Wishes:
        """Wishes as they were when it was measured."""
        known = catalogue(self.kind)
        gate: dict[str, Bound | None] = dict.fromkeys(known.names, None) | dict(self.gate)
        return wishes(known, objective, gate, {}, self.weights)

    def full(self) -> int:
        """How many were timed."""
        return sum(one.standing == "measured" for one in self.trials)


def read(file: Path) -> Space:
    """A space from its file."""
    raw = json.loads(gzip.decompress(file.read_bytes()))
    gate = {name: Bound.model_validate(bound) for name, bound in raw["gate"].items()}
    trials = tuple(Trial.model_validate(one) for one in raw["trials"])
    return Space(raw["name"], raw["kind"], gate, raw["weights"], trials)


def keep(name: str, kind: str, weights: Mapping[str, float], found: Found) -> Path:
    """Write a space that a search measured to its end; figures that no wish asks about are left out."""
    known = catalogue(kind)
    asked = set(found.limits) | {"artifact_mb", "artifact_share", "probe_distance", "probe_agreement", "peak_rss_mb"}
    asked |= {spec.name for spec in known if spec.axis is not None or spec.against}
    trials: list[Trial] = []
    for one in found.trials:
        if one.standing == "open":
            continue
        steps = [
            s.model_copy(update={"figures": {n: f for n, f in s.figures.items() if n in asked}}) for s in one.steps
        ]
        trials.append(one.model_copy(update={"steps": tuple(steps), "number": None, "dropped": False}))
    told: dict[str, Any] = {"name": name, "kind": kind, "gate": found.limits, "weights": dict(weights)}
    told["trials"] = [one.model_dump(mode="json") for one in trials]
    file = RECORDED / f"{name}.json.gz"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(gzip.compress(json.dumps(told).encode(), mtime=0))
    return file


@dataclass
class Replay:
    """A bench that hands out what was measured, with its noise drawn anew."""

    space: Space
    seed: int
    clock: float = 0.0
    timed: list[str] = field(default_factory=list)
    _known: dict[str, Trial] = field(default_factory=dict)

    def now(self) -> float:
        """Seconds that it would have taken so far."""
        return self.clock

    def drop(self, name: str) -> None:
        """Nothing is kept."""

    def advance(self, names: Sequence[str], rung: Rung) -> Mapping[str, Step]:
        """The recorded steps; what was never brought so far fails as it was given up."""
        self._known = self._known or {one.name: one for one in self.space.trials}
        found = {}
        for name in names:
            step = next((one for one in self._known[name].steps if one.rung == rung), None)
            if step is None and rung == "glanced":
                step = self._glance(name)
            found[name] = (
                self._drawn(name, step) if step else Step(rung=rung, ok=False, reason=self._known[name].reason)
            )
        return self._taken(found, rung)

    def again(self, names: Sequence[str]) -> Mapping[str, Step]:
        """Three sessions in place of one, drawn apart from those before."""
        self._known = self._known or {one.name: one for one in self.space.trials}
        steps = {name: next(s for s in self._known[name].steps if s.rung == "timed") for name in names}
        found = {
            name: self._drawn(name, step.model_copy(update={"seconds": LONGER * step.seconds}), LONGER)
            for name, step in steps.items()
        }
        self.clock += sum(one.seconds for one in found.values())
        return found

    def _taken(self, found: Mapping[str, Step], rung: Rung) -> Mapping[str, Step]:
        taken = [one.seconds for one in found.values()]
        self.clock += sum(taken) if rung == "timed" else max(taken, default=0.0)
        if rung == "timed":
            self.timed += found
        return found

    def _glance(self, name: str) -> Step:
        """One of the four blocks at least that a candidate was timed by: twice the noise, a quarter of the seconds.

        One that was cut before it was timed tells no speed.
        """
        timed = next((one for one in self._known[name].steps if one.rung == "timed"), None)
        if timed is None:
            return Step(rung="glanced", ok=True, seconds=10.0)
        known, found = catalogue(self.space.kind), {}
        for phase in known.deciding:
            ratio = known.ratio_of(phase)
            if ratio is not None and ratio.name in timed.figures:
                one = timed.figures[ratio.name]
                dice = np.random.default_rng([self.seed, sum(map(ord, name)), len(phase)])
                value = one.value * math.exp(dice.normal(0, 2 * _errors(one, 1)[0]))
                found[ratio.name] = Figure(value=value, low=value / GLANCE, high=value * GLANCE)
        return Step(rung="glanced", ok=True, figures=found, seconds=timed.seconds / 4)

    def _drawn(self, name: str, step: Step, sessions: int = 1) -> Step:
        """What was timed, moved by its noise; in more sessions the noise is less by their root."""
        if step.rung != "timed":  # conversions and scores repeat; what is timed does not
            return step
        dice = np.random.default_rng([self.seed, sum(map(ord, name)), sessions])
        figures = {}
        known = catalogue(self.space.kind)
        for metric, one in sorted(step.figures.items()):
            low, high = one.ends
            scored = metric in known.names and known[metric].group == "quality"  # which a timing does not change
            if not scored and one.value > 0 and low > 0 and high > low:
                error, reach = _errors(one, sessions)
                value = one.value * math.exp(dice.normal(0, error))
                figures[metric] = Figure(value=value, low=value * math.exp(-reach), high=value * math.exp(reach))
            else:
                figures[metric] = one
        return step.model_copy(update={"figures": figures})


def _errors(one: Figure, sessions: int) -> tuple[float, float]:
    """Standard error of a ratio's logarithm and half of its interval, had it been timed in so many times the blocks.

    An interval is Student's over blocks; where these were not kept, it is taken for one of many.
    """
    from scipy.stats import t

    half, units = math.log(one.ends[1] / one.ends[0]) / 2, one.units or 0
    if units < 2:
        return half / 1.96 / math.sqrt(sessions), half / math.sqrt(sessions)
    error = half / float(t.ppf(0.975, units - 1)) / math.sqrt(sessions)
    return error, error * float(t.ppf(0.975, units * sessions - 1))


@dataclass(frozen=True)
class Outcome:
    """One replay."""

    reached: float  # the chosen one's true objective, as a share of the best
    false: bool  # whether it is worse than the best beyond noise
    full: int  # full evaluations
    seconds: float


def replay(space: Space, objective: str, way: str, seed: int, most: int | None = None) -> Outcome:
    """Search once; `most`: full evaluations after which it is stopped."""
    wanted, bench = space.asked(objective), Replay(space, seed)
    candidates = space.candidates
    order = random.Random(seed).sample(list(candidates), len(candidates))
    shuffled = {name: candidates[name] for name in order}
    kinds: dict[str, Any] = {OURS: BySurrogate, **RIVALS}
    strategy = kinds[way](shuffled, [], wanted, seed)
    if most is not None:
        strategy = _Stopped(strategy, bench, most)
    found = Coordinator(wanted, strategy, bench, InMemory(), 1e9, AT_ONCE).run(opened(shuffled, []))
    return _judged(space, wanted, found, bench)


class _Stopped:
    def __init__(self, inner: Any, bench: Replay, most: int) -> None:
        self._inner, self._bench, self._most = inner, bench, most

    def following(self, trials: Sequence[Trial]) -> list[str]:
        return self._inner.following(trials) if len(self._bench.timed) < self._most else []


def _judged(space: Space, wanted: Wishes, found: Found, bench: Replay) -> Outcome:
    feasible = [one for one in space.trials if one.standing == "measured" and not wanted.broken(one.figures)]
    sure = [one for one in feasible if not wanted.misses(one.figures)] or feasible
    worth = {one.name: _worth(wanted, one) for one in feasible}
    best = max(sure, key=lambda one: sum(worth[one.name]))
    own = worth.get(found.best or "")
    if own is None:
        return Outcome(0.0, True, len(bench.timed), bench.clock)
    short = (sum(worth[best.name]) - sum(own)) / 2
    beyond = worth[best.name][0] > own[1]
    return Outcome(min(1.0, 2.0**-short), beyond, len(bench.timed), bench.clock)


def _worth(wanted: Wishes, one: Trial) -> tuple[float, float]:
    gains = wanted.gains(one.figures)
    return wanted.worth(gains) if gains is not None else (-math.inf, -math.inf)


def _many(job: tuple[Space, str, str, int, int | None]) -> Outcome:
    os.environ["OMP_NUM_THREADS"] = "1"
    return replay(*job)


def compare(space: Space, objective: str, seeds: int) -> tuple[list[list[str]], Figures]:
    """Ours to its own end, the rivals with as many full evaluations as ours took in the same seed."""
    rows, figures = list[list[str]](), Figures()
    with ProcessPoolExecutor(max_workers=2) as pool:
        ours = list(pool.map(_many, [(space, objective, OURS, seed, None) for seed in range(seeds)], chunksize=4))
        outcomes = {OURS: ours}
        for way in RIVALS:
            jobs = [(space, objective, way, seed, one.full) for seed, one in enumerate(ours)]
            outcomes[way] = list(pool.map(_many, jobs, chunksize=4))
    for way, some in outcomes.items():
        reached = sum(one.reached >= NEAR for one in some) / len(some)
        wrong = sum(one.false for one in some) / len(some)
        full = float(np.percentile([one.full / max(1, space.full()) for one in some], 95))
        seconds = float(np.median([one.seconds for one in some]))
        rows.append([space.name, objective, way, f"{reached:.1%}", f"{wrong:.1%}", f"{full:.0%}", f"{seconds:.0f}"])
        figures[f"{space.name}/{objective}/{way}"] = reached
        if way == OURS:
            figures |= {f"{space.name}/{objective}/false": wrong, f"{space.name}/{objective}/full": full}
    return rows, figures


# -- killed ------------------------------------------------------------------------------------------------------------

KILLED = """
import sys, time
from pathlib import Path
from tasks.search.coordinator import Coordinator
from tasks.search.strategies import BySurrogate
from tasks.search.study import Study, opened
from tests.bench.searching import AT_ONCE, Replay, read

space = read(Path(sys.argv[1]))

class Logged(Replay):
    def advance(self, names, rung):
        time.sleep(0.02)
        found = super().advance(names, rung)
        with Path(sys.argv[3]).open("a") as log:
            log.writelines(f"{name} {rung}\\n" for name in names)
        return found

wanted, candidates = space.asked("weights"), space.candidates
study = Study(Path(sys.argv[2]), "one", candidates)
print("begun", flush=True)
bench = Logged(space, 1)
found = Coordinator(wanted, BySurrogate(candidates, [], wanted, 1), bench, study, 1e9, AT_ONCE).run(
    opened(candidates, study.recovered())
)
Path(sys.argv[4]).write_text(found.model_dump_json())
"""


def killed(space: Path, scratch: Path, times: int) -> Figures:
    """Kill one search at so many moments; count rungs that were finished and done again, or lost, and the outcome."""
    dice, out, log = random.Random(5), scratch / "found.json", scratch / "log.txt"
    command = [sys.executable, "-c", KILLED, str(space), str(scratch / "study.db"), str(log), str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    under_way = 0
    for _ in range(times):
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(dice.uniform(0.02, 0.6))
            process.send_signal(signal.SIGKILL)
        under_way += max(AT_ONCE.values())
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or not out.exists():
        return {"lost_or_twice": None, "kills": times}
    found = Found.model_validate_json(out.read_text())
    lines = log.read_text().splitlines()
    twice = len(lines) - len(set(lines))
    climbed = {f"{one.name} {step.rung}" for one in found.trials for step in one.steps}
    lost = len(set(lines) - climbed)
    return {"lost_or_twice": float(lost + max(0, twice - under_way)), "kills": times, "again_as_cut_off": float(twice)}


# -- the command -------------------------------------------------------------------------------------------------------


def bench(scratch: Path, seeds: int, names: Sequence[str]) -> Figures:
    """All recorded spaces, two objectives each; the worst of ours decides."""
    figures, rows = Figures(), [["space", "objective", "way", "reached", "false best", "full, p95", "seconds, p50"]]
    for file in sorted(RECORDED.glob("*.json.gz")):
        space = read(file)
        if names and space.name not in names:
            continue
        tell(f"{space.name}: {len(space.trials)} candidates, {space.full()} timed")
        for objective in OBJECTIVES.get(space.kind, ("weights",)):
            told, own = compare(space, objective, seeds)
            rows += told
            figures |= own
    ours = [value for name, value in figures.items() if name.endswith(f"/{OURS}") and value is not None]
    figures["ours_reached"] = min(ours, default=None)
    for key, ending in (("ours_full_share", "/full"), ("false_best", "/false")):
        some = [value for name, value in figures.items() if name.endswith(ending) and value is not None]
        figures[key] = max(some, default=None)
    largest = max(RECORDED.glob("*.json.gz"), key=lambda file: len(read(file).trials), default=None)
    if largest is not None:
        figures |= killed(largest, scratch, KILLS)
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    return figures


def record(name: str) -> int:
    """Keep the last search as a space."""
    [*_, last] = sorted(Path("artifacts/search").glob("*/found.json"), key=lambda file: file.stat().st_mtime)
    kind = Source.read(last.parent / "model" / "source.json").kind
    params = load_params()
    file = keep(name, kind, params.for_target().recommend.weights, Found.read(last))
    space = read(file)
    print(f"{file}: {len(space.trials)} candidates, {space.full()} timed")
    return 0


def main() -> int:
    """Run it."""
    made = parser("bench.searching", __doc__)
    made.add_argument("--record", metavar="NAME", help="keep the last search as a space of this name")
    made.add_argument("--seeds", type=int, default=SEEDS)
    made.add_argument("--space", action="append", default=[], help="only these spaces")
    told = made.parse_args()
    if told.record:
        return record(told.record)
    return harness_main("bench-search", lambda scratch: bench(scratch, told.seeds, told.space), LIMITS)


if __name__ == "__main__":
    raise SystemExit(main())
