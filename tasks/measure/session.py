"""A timing session: the reference and the variants take turns, each block in a fresh process, disturbed ones again."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.config import Benchmark
from tasks.errors import ChildError
from tasks.measure import guard, pairing
from tasks.measure.pairing import PHASES, Block, beyond, noise_floor, speedup
from tasks.measure.statistics import LEVEL, levels_of_looks
from tasks.records import Disturbance, Paired

DECIDING = ("prefill_tokens_per_s", "decode_tokens_per_s")  # phases that gates are about
Limits = Mapping[str, Mapping[str, float]]  # variant -> phase -> the least speedup that a gate asks
FEWEST = 2  # blocks of a variant that must count before its speed decides anything


@dataclass
class Taken:
    """What a session found about one variant."""

    answers: list[dict[str, Any]] = field(default_factory=list)  # of the blocks that count
    disturbed: list[dict[str, Any]] = field(default_factory=list)  # of those that do not
    disturbances: list[Disturbance] = field(default_factory=list)
    objections: list[str] = field(default_factory=list)  # why blocks do not count
    discarded: int = 0  # blocks that were timed again
    level: float = LEVEL  # confidence level of its intervals: by how often it was looked at
    final: bool = True  # no session was left
    failure: str = ""  # how a block ended that gave no answer; the variant has no further blocks then

    @property
    def doubt(self) -> str:
        """Why the speeds decide nothing; empty when they may."""
        if self.failure:
            return f"a timed process failed after {len(self.answers)} that count: {self.failure}"
        if len(self.answers) < FEWEST:
            return f"{len(self.answers)} blocks count, {FEWEST} are needed: {'; '.join(dict.fromkeys(self.objections))}"
        return ""


@dataclass(frozen=True)
class Session:
    """All blocks that count, in the order of time, and what was found about each variant."""

    reference: str
    blocks: list[Block]
    taken: dict[str, Taken]

    def uncertain(self, variants: Sequence[str], precision: float, limits: Limits) -> list[str]:
        """Those whose speedup is not yet known within `precision`, a share, to either side, or leaves a gate open."""

        def wide(variant: str) -> bool:
            found = [self._own(variant, phase) for phase in DECIDING]
            return any(one is None or math.log(one.high / one.low) / 2 > math.log(1 + precision) for one in found)

        return [
            name
            for name in variants
            if not self.taken[name].failure and (wide(name) or undecided(self.paired(name), limits.get(name, {})))
        ]

    def _own(self, variant: str, phase: str) -> Paired | None:
        return speedup(self.blocks, variant, self.reference, phase, self.taken[variant].level)

    def paired(self, variant: str) -> dict[str, Paired]:
        """Speedups of one variant per phase; of the reference, how it compares with itself."""
        found = {}
        for phase in PHASES:
            own = self._own(variant, phase)
            itself = speedup(self.blocks, self.reference, self.reference, phase)
            if own is not None:
                floor = None if itself is None else noise_floor(itself)
                found[phase] = own.model_copy(update={"floor": floor})
        return found


def undecided(speedups: Mapping[str, Paired], minima: Mapping[str, float]) -> tuple[str, ...]:
    """Phases whose interval, wider by the noise floor, holds the least that a gate asks; none once one is missed.

    >>> fast = Paired(value=2.0, low=1.9, high=2.1, blocks=4, pairs=8, floor=0.0)
    >>> undecided({"decode_tokens_per_s": fast}, {"decode_tokens_per_s": 2.0})
    ('decode_tokens_per_s',)
    """
    found = {}
    for phase, least in minima.items():
        if phase in speedups:
            one = speedups[phase]
            interval = beyond(one.low, one.high, one.floor)
            found[phase] = "missed" if interval.high < least else "kept" if interval.low >= least else "open"
    return () if "missed" in found.values() else tuple(phase for phase, where in found.items() if where == "open")


def timed_in_turns(
    reference: str,
    others: Sequence[str],
    block: Callable[[str, bool], dict[str, Any]],
    settings: Benchmark,
    seed: int,
    limits: Limits | None = None,
) -> Session:
    """Time the reference and the others in turns, and further on those that are not known well enough.

    `block` starts a fresh process for a variant and returns what it measured; it is told whether none of this variant
    counts yet. Two sessions share a seed, the second goes backwards. `limits` are the least speedups that gates ask of
    a variant. Whether a session more is needed is asked after each; intervals are as wide as that many looks demand.
    """
    session = Session(reference, [], {name: Taken() for name in (reference, *others)})
    count = settings.sessions + settings.more_sessions
    levels = levels_of_looks([(settings.sessions + i) / count for i in range(settings.more_sessions + 1)])
    names: Sequence[str] = others
    for number in range(count):
        look = max(0, number + 1 - settings.sessions)
        if number >= settings.sessions:
            names = session.uncertain(others, settings.precision, limits or {})
            if not names:
                break
        for name in names:
            session.taken[name].level, session.taken[name].final = levels[look], number + 1 == count
        order = pairing.schedule(
            reference, names, settings.rounds, settings.apart, seed + number // 2, backwards=bool(number % 2)
        )
        print(f"  session {number + 1}: {len(order)} blocks", file=sys.stderr, flush=True)
        hold(
            session,
            order,
            lambda name: block(name, not session.taken[name].answers),
            settings.max_others_cores,
            settings.retries,
        )
    return session


def hold(
    session: Session, order: Sequence[str], measure: Callable[[str], dict[str, Any]], most_cores: float, retries: int
) -> None:
    """Time blocks in this order and add them. `measure` starts a fresh process for a variant, returns what it measured.

    A block that other processes disturbed is timed again at once, at most `retries` times, and then left out. A variant
    whose process fails gets no further blocks; without the reference nothing can be compared, so its failure ends all.
    """
    for number, name in enumerate(order, start=1):
        own = session.taken.setdefault(name, Taken())
        if own.failure or session.taken[session.reference].failure:
            continue
        label = f"block {number} of {len(order)}, {name}"
        try:
            timed = guard.undisturbed(lambda name=name: measure(name), label, most_cores, retries)  # type: ignore[misc]
        except ChildError as error:
            own.failure = f"{error.kind}: {error}"
            print(f"  {label}: {own.failure}", file=sys.stderr, flush=True)
            continue
        own.discarded += timed.discarded
        own.disturbances.append(timed.disturbance)
        if timed.objection:
            own.objections.append(timed.objection)
            own.disturbed.append(timed.answer)
            continue
        own.answers.append(timed.answer)
        samples = {phase: timed.answer[phase] for phase in PHASES if timed.answer.get(phase)}
        session.blocks.append(Block(name, time.monotonic() - timed.disturbance.seconds / 2, samples))
        print(f"  {label}: {_shown(timed.answer)}", file=sys.stderr, flush=True)


def _shown(answer: Mapping[str, Any]) -> str:
    prefill, decode = answer["prefill_tokens_per_s"], answer["decode_tokens_per_s"]
    return f"prefill {sum(prefill) / len(prefill):.0f}, decode {sum(decode) / len(decode):.1f} tok/s"
