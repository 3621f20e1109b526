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
from tasks.measure.pairing import PHASES, Block, noise_floor, speedup
from tasks.records import Disturbance, Paired

DECIDING = ("prefill_tokens_per_s", "decode_tokens_per_s")  # phases that gates are about
FEWEST = 2  # blocks of a variant that must count before its speed decides anything


@dataclass
class Taken:
    """What a session found about one variant."""

    answers: list[dict[str, Any]] = field(default_factory=list)  # of the blocks that count
    disturbed: list[dict[str, Any]] = field(default_factory=list)  # of those that do not
    disturbances: list[Disturbance] = field(default_factory=list)
    objections: list[str] = field(default_factory=list)  # why blocks do not count
    discarded: int = 0  # blocks that were timed again
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

    def uncertain(self, variants: Sequence[str], precision: float) -> list[str]:
        """Those whose speedup in reading or writing is not yet known within `precision`, a share, to either side.

        To stop when an interval is narrow enough does not look at where it lies, so that it favours no verdict
        (fixed-width sequential intervals: Chow and Robbins 1965).
        """

        def wide(variant: str) -> bool:
            found = [speedup(self.blocks, variant, self.reference, phase) for phase in DECIDING]
            return any(one is None or math.log(one.high / one.low) / 2 > math.log(1 + precision) for one in found)

        return [name for name in variants if not self.taken[name].failure and wide(name)]

    def paired(self, variant: str) -> dict[str, Paired]:
        """Speedups of one variant per phase; of the reference, how it compares with itself."""
        found = {}
        for phase in PHASES:
            own = speedup(self.blocks, variant, self.reference, phase)
            itself = speedup(self.blocks, self.reference, self.reference, phase)
            if own is not None:
                floor = None if itself is None else noise_floor(itself)
                found[phase] = own.model_copy(update={"floor": floor})
        return found


def timed_in_turns(
    reference: str, others: Sequence[str], block: Callable[[str, bool], dict[str, Any]], settings: Benchmark, seed: int
) -> Session:
    """Time the reference and the others in turns, and once more those whose speedup is not known well enough.

    `block` starts a fresh process for a variant and returns what it measured; it is told whether none of this variant
    counts yet. Two sessions share a seed, the second goes backwards.
    """
    session = Session(reference, [], {name: Taken() for name in (reference, *others)})
    for number in range(settings.sessions + settings.more_sessions):
        extra = number >= settings.sessions
        names = session.uncertain(others, settings.precision) if extra else others
        if extra and not names:
            break
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
