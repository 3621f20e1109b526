"""A timing session: the reference and the variants take turns, each block in a fresh process, disturbed ones again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.errors import ChildError
from tasks.measure import guard
from tasks.measure.pairing import PHASES, Block, noise_floor, speedup
from tasks.records import Disturbance, Paired

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
    blocks: Sequence[Block]
    taken: Mapping[str, Taken]

    def paired(self, variant: str) -> dict[str, Paired]:
        """Speedups of one variant per phase; of the reference, how it compares with itself."""
        found = {}
        for phase in PHASES:
            own = speedup(self.blocks, variant, self.reference, phase)
            itself = speedup(self.blocks, self.reference, self.reference, phase)
            if own is not None:
                floor = None if itself is None else noise_floor(itself)
                found[phase] = Paired(
                    value=own.value, low=own.low, high=own.high, floor=floor, blocks=own.blocks, pairs=own.pairs
                )
        return found


def hold(
    order: Sequence[str], reference: str, measure: Callable[[str], dict[str, Any]], most_cores: float, retries: int
) -> Session:
    """Time the blocks in this order. `measure` starts a fresh process for a variant and returns what it measured.

    A block that other processes disturbed is timed again at once, at most `retries` times, and then left out. A variant
    whose process fails gets no further blocks; without the reference nothing can be compared, so its failure ends all.
    """
    taken = {name: Taken() for name in dict.fromkeys(order)}
    blocks: list[Block] = []
    for number, name in enumerate(order, start=1):
        own = taken[name]
        if own.failure:
            continue
        label = f"block {number} of {len(order)}, {name}"
        try:
            timed = guard.undisturbed(lambda name=name: measure(name), label, most_cores, retries)  # type: ignore[misc]
        except ChildError as error:
            own.failure = f"{error.kind}: {error}"
            print(f"  {label}: {own.failure}", file=sys.stderr, flush=True)
            if name == reference:
                break
            continue
        own.discarded += timed.discarded
        own.disturbances.append(timed.disturbance)
        if timed.objection:
            own.objections.append(timed.objection)
            own.disturbed.append(timed.answer)
            continue
        own.answers.append(timed.answer)
        samples = {phase: timed.answer[phase] for phase in PHASES if timed.answer.get(phase)}
        blocks.append(Block(name, time.monotonic() - timed.disturbance.seconds / 2, samples))
        print(f"  {label}: {_shown(timed.answer)}", file=sys.stderr, flush=True)
    return Session(reference, blocks, taken)


def _shown(answer: Mapping[str, Any]) -> str:
    prefill, decode = answer["prefill_tokens_per_s"], answer["decode_tokens_per_s"]
    return f"prefill {sum(prefill) / len(prefill):.0f}, decode {sum(decode) / len(decode):.1f} tok/s"
