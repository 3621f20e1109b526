"""Paired, interleaved timing: who is timed when, and what the ratios of neighbours in time say. Pure.

A machine's speed wanders: by tens of percent within minutes where others share it. What is timed one after the other
then differs for no reason of its own. Here the reference and the candidates take turns in short blocks, and each block
is compared only with the reference blocks just before and after it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.measure.statistics import LEVEL, Interval, clustered_median
from tasks.records.speed import Paired

# Phases whose samples belong to one unit of work each, so that they pair one by one, and whether more is better.
Phases = Mapping[str, bool]


@dataclass(frozen=True)
class Block:
    """Samples per phase of one fresh process: the same prompts in the same order in every block."""

    variant: str
    when: float  # middle of the block, seconds on any one clock
    samples: Mapping[str, Sequence[float]]


def schedule(reference: str, others: Sequence[str], rounds: int, every: int, seed: int, backwards: bool) -> list[str]:
    """The order of blocks of one session: every round all others in an order of its own, a reference block before
    and after each round and at most `every` blocks from the next.

    Of two sessions with one seed the second goes backwards, so that a drift does not come back as a difference.

    >>> schedule("ref", ["a", "b", "c"], rounds=2, every=2, seed=1, backwards=False)
    ['ref', 'a', 'c', 'ref', 'b', 'ref', 'a', 'b', 'ref', 'c', 'ref']
    """
    dice = random.Random(seed)  # noqa: S311 - an order, not a secret
    order = [reference]
    for _ in range(rounds):
        mixed = dice.sample(list(others), len(others))
        for start in range(0, max(len(mixed), 1), every):
            order += [*mixed[start : start + every], reference]
    return order[::-1] if backwards else order


def speedup(
    blocks: Sequence[Block], variant: str, reference: str, phase: tuple[str, bool], level: float = LEVEL
) -> Paired | None:
    """Compare one variant's blocks with the reference blocks around them; None with fewer than two such blocks.

    With `variant` the reference itself this is the A/A comparison: each inner reference block against its neighbours.
    `phase` is its name, and whether more is better. Raises ValueError when blocks hold different numbers of samples.
    """
    ratios = [found for i, block in enumerate(blocks) if block.variant == variant
              for found in [_ratios(blocks, i, reference, phase)] if found is not None]  # fmt: skip
    if len(ratios) < 2:
        return None
    middle, interval = clustered_median(ratios, level=level)
    return Paired(
        value=math.exp(middle),
        low=math.exp(interval.low),
        high=math.exp(interval.high),
        blocks=len(ratios),
        pairs=sum(len(one) for one in ratios),
    )


def paired_median(blocks: Sequence[Block], variant: str, reference: str, phase: tuple[str, bool]) -> float | None:
    """The median of the paired ratios of however few blocks, with no word on how sure it is; None without any."""
    found = [_ratios(blocks, i, reference, phase) for i, block in enumerate(blocks) if block.variant == variant]
    known = [ratios for ratios in found if ratios is not None]
    return math.exp(float(np.median(np.concatenate(known)))) if known else None


def _ratios(blocks: Sequence[Block], index: int, reference: str, timed: tuple[str, bool]) -> NDArray[np.float64] | None:
    """Logarithms of how many times as fast a block was, a value per prompt; the nearer reference block weighs more."""
    block, (phase, rising) = blocks[index], timed
    before = next((b for b in reversed(blocks[:index]) if b.variant == reference and b.samples.get(phase)), None)
    after = next((b for b in blocks[index + 1 :] if b.variant == reference and b.samples.get(phase)), None)
    if before is None or after is None or not block.samples.get(phase):
        return None
    span = after.when - before.when
    share = (block.when - before.when) / span if span > 0 else 0.5
    if not len(before.samples[phase]) == len(after.samples[phase]) == len(block.samples[phase]):
        raise ValueError(f"{block.variant} and {reference} have different numbers of samples of {phase}")
    base = (1 - share) * np.log(before.samples[phase]) + share * np.log(after.samples[phase])
    difference: NDArray[np.float64] = np.log(block.samples[phase]) - base
    return difference if rising else -difference


def beyond(low: float, high: float, floor: float | None) -> Interval:
    """The interval that decides: wider by the noise floor on both sides, as an effect within it is none.

    >>> beyond(2.1, 2.2, 0.05)
    Interval(low=2.0, high=2.3100000000000005)
    """
    return Interval(low / (1 + (floor or 0.0)), high * (1 + (floor or 0.0)))


def noise_floor(against_itself: Paired) -> float:
    """Compute how far the reference was from itself, as a share: smaller differences may be none.

    Its own interval is not added: the noise of single blocks is in every interval already.

    >>> round(noise_floor(Paired(value=0.98, low=0.9, high=1.05, blocks=4, pairs=20)), 4)
    0.0204
    """
    return max(1 / against_itself.value, against_itself.value) - 1
