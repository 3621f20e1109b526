"""A timing session: the reference and the variants take turns, each block in a fresh process, disturbed ones again."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tasks.errors import ChildError
from tasks.measure import guard, pairing
from tasks.measure.pairing import Block, Phases, beyond, noise_floor, speedup
from tasks.measure.statistics import LEVEL, levels_of_looks
from tasks.measure.timing import Times
from tasks.params.pipeline import Benchmark
from tasks.records.hardware import Disturbance
from tasks.records.speed import Paired

Minima = Sequence[Mapping[str, float]]  # per target: phase -> the least speedup that a gate asks
Limits = Mapping[str, Minima]  # by variant
FEWEST = 2  # blocks of a variant that must count before its speed decides anything


@dataclass
class VariantTimings:
    """Timings and speedups that a session found for one variant."""

    answers: list[Times] = field(default_factory=list)  # of the blocks that count
    disturbed: list[Times] = field(default_factory=list)  # of those that do not
    disturbances: list[Disturbance] = field(default_factory=list)
    objections: list[str] = field(default_factory=list)  # why blocks do not count
    discarded: int = 0  # blocks that were timed again
    level: float = LEVEL  # confidence level of its intervals: by how often it was looked at
    final: bool = True  # no session was left
    failure: str = ""  # how a block ended that gave no answer; the variant has no further blocks then

    @property
    def doubt(self) -> str:
        """Say why the speeds decide nothing; empty when they may."""
        if self.failure:
            return f"a timed process failed after {len(self.answers)} that count: {self.failure}"
        if len(self.answers) < FEWEST:
            return f"{len(self.answers)} blocks count, {FEWEST} are needed: {'; '.join(dict.fromkeys(self.objections))}"
        return ""


@dataclass(frozen=True)
class Session:
    """All blocks that count, in the order of time, and what was found about each variant."""

    reference: str
    phases: Phases  # that are compared
    deciding: Sequence[str]  # those among them whose speedup must be known precisely
    blocks: list[Block] = field(default_factory=list)
    timings: dict[str, VariantTimings] = field(default_factory=dict)

    def uncertain(self, variants: Sequence[str], margin: float, limits: Limits) -> list[str]:
        """List those of `limits` whose speedup is not known within `margin`, a share, or leaves a gate open."""

        def wide(variant: str) -> bool:
            found = [self._own(variant, phase) for phase in self.deciding]
            return any(one is None or math.log(one.high / one.low) / 2 > math.log(1 + margin) for one in found)

        return [
            name
            for name in variants
            if name in limits
            and not self.timings[name].failure
            and (wide(name) or leaves_open(self.paired(name), limits[name]))
        ]

    def open_beside(self, variants: Sequence[str], limits: Limits) -> bool:
        """Whether a gate on a phase beside the deciding ones is open for any of these, or has no figure yet.

        A figure without a noise floor is none: the reference has too few blocks of that phase to compare with itself.
        """

        def beside(name: str, minima: Mapping[str, float]) -> set[str]:
            known = {phase: one for phase, one in self.paired(name).items() if one.floor is not None}
            return ({*undecided(known, minima)} | (minima.keys() - known.keys())) - {*self.deciding}

        return any(beside(name, minima) for name in variants for minima in limits.get(name, ()))

    def _own(self, variant: str, phase: str) -> Paired | None:
        return speedup(self.blocks, variant, self.reference, (phase, self.phases[phase]), self.timings[variant].level)

    def paired(self, variant: str) -> dict[str, Paired]:
        """Speedups of one variant per phase; of the reference, how it compares with itself."""
        found = {}
        for phase, rising in self.phases.items():
            own = self._own(variant, phase)
            itself = speedup(self.blocks, self.reference, self.reference, (phase, rising))
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


def leaves_open(speedups: Mapping[str, Paired], minima: Minima) -> bool:
    """Whether more timing could decide a gate of any target."""
    return any(undecided(speedups, of_target) for of_target in minima)


def timed_in_turns(
    session: Session,
    others: Sequence[str],
    block: Callable[[str, bool, bool], Times],
    settings: Benchmark,
    seed: int,
    limits: Limits | None = None,
) -> Session:
    """Time the reference and the others in turns, and further on those that are not known well enough.

    `session` is empty: it names the reference and the phases, and is filled and returned. `block` starts a fresh
    process for a variant and returns what it measured; it is told whether none of this variant counts yet, and whether
    the phases that decide are enough: after the first session, while no gate on another one is open. Two sessions share
    a seed, the second goes backwards. `limits` are the least speedups that gates ask of a variant;
    of one that is not among them, a rival, nothing hangs on its speed, and the first session is its only one.
    Whether a session more is needed is asked after each; intervals are as wide as that many looks demand.
    """
    reference = session.reference
    session.timings.update({name: VariantTimings() for name in (reference, *others)})
    count = settings.sessions + settings.more_sessions
    levels = levels_of_looks([(settings.sessions + i) / count for i in range(settings.more_sessions + 1)])
    names: Sequence[str] = others
    asked: Limits = dict.fromkeys(others, ()) if limits is None else limits
    for number in range(count):
        look = max(0, number + 1 - settings.sessions)
        if number >= settings.sessions:
            names = session.uncertain(others, settings.max_speedup_margin, asked)
        elif number:
            names = [name for name in others if name in asked]
        if not names and (others or number >= settings.sessions):
            break
        for name in asked.keys() & set(names):
            session.timings[name].level, session.timings[name].final = levels[look], number + 1 == count
        order = pairing.schedule(
            reference, names, settings.rounds, settings.reference_every, seed + number // 2, backwards=bool(number % 2)
        )
        if session.blocks and session.blocks[-1].variant == reference:
            order = order[1:]  # the last one of the session before is just over
        brief = number > 0 and not session.open_beside(names, asked)
        print(f"  session {number + 1}: {len(order)} blocks", file=sys.stderr, flush=True)
        run_blocks(
            session,
            order,
            lambda name, brief=brief: block(name, not session.timings[name].answers, brief),  # type: ignore[misc]
            settings.max_others_cores,
            settings.retries,
        )
    return session


def run_blocks(
    session: Session, order: Sequence[str], measure: Callable[[str], Times], most_cores: float, retries: int
) -> None:
    """Time blocks in this order and add them. `measure` starts a fresh process for a variant, returns what it measured.

    A block that other processes disturbed is timed again at once, at most `retries` times, and then left out. A variant
    whose process fails gets no further blocks; without the reference nothing can be compared, so its failure ends all.
    """
    for number, name in enumerate(order, start=1):
        own = session.timings.setdefault(name, VariantTimings())
        if own.failure or session.timings[session.reference].failure:
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
        samples = {phase: found for phase in session.phases if (found := timed.answer.samples.get(phase))}
        session.blocks.append(Block(name, time.monotonic() - timed.disturbance.seconds / 2, samples))
        print(f"  {label}: {_shown(session, timed.answer)}", file=sys.stderr, flush=True)


def _shown(session: Session, answer: Times) -> str:
    means = {phase: sum(found) / len(found) for phase in session.deciding if (found := answer.samples.get(phase))}
    return ", ".join(f"{phase.split('_')[0]} {mean:.4g}" for phase, mean in means.items())
