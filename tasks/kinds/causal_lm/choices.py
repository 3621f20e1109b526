"""Task accuracy: which of some continuations a model finds the most likely, and what differs from the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import TokenScorer
from tasks.kinds.causal_lm.quality import Floats
from tasks.kinds.causal_lm.tasks import ChoiceItem
from tasks.measure.statistics import LEVEL, Interval, mcnemar_mid_p, paired_retention

AT_ONCE = 8  # items: small batches of short texts leave a processor idle, llama.cpp is slow from 16 on


@dataclass(frozen=True)
class Chosen:
    """A model's choices: per item the mean log-likelihood of each continuation, nats per token, and the right one."""

    likelihood: Floats  # shape (items, most choices); -inf where an item has fewer
    answer: NDArray[np.int32]  # shape (items,)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Tell per item whether the likeliest continuation is the right one; shape (items,)."""
        right: NDArray[np.bool_] = self.likelihood.argmax(axis=1) == self.answer
        return right

    def first(self, items: int) -> Chosen:
        """Only the first items."""
        return Chosen(self.likelihood[:items], self.answer[:items])

    def joined(self, later: Chosen) -> Chosen:
        """These items, then the others."""
        width = max(self.likelihood.shape[1], later.likelihood.shape[1])
        both = [
            np.pad(one.likelihood, ((0, 0), (0, width - one.likelihood.shape[1])), constant_values=-np.inf)
            for one in (self, later)
        ]
        return Chosen(np.concatenate(both), np.concatenate([self.answer, later.answer]))

    def save(self, path: Path) -> None:
        """Write as .npz."""
        np.savez_compressed(path, likelihood=self.likelihood, answer=self.answer)

    @staticmethod
    def load(path: Path) -> Chosen:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return Chosen(stored["likelihood"], stored["answer"])


def choose(session: TokenScorer, items: Sequence[ChoiceItem]) -> Chosen:
    """Weigh every item's continuations by length-normalized log-likelihood.

    The mean over a continuation's tokens, so that a short one has no advantage (the `acc_norm` of language model
    harnesses, by tokens instead of bytes).
    """
    width = max((len(item.choices) for item in items), default=0)
    found = np.full((len(items), width), -np.inf)
    for numbers in _alike(items):
        group = [items[i] for i in numbers]
        logits = session.score_after([item.prompt for item in group], [item.choices for item in group])
        for i, item, own in zip(numbers, group, logits, strict=True):
            found[i, : len(own)] = [_likelihood(one, ids) for one, ids in zip(own, item.choices, strict=True)]
    return Chosen(found, np.array([item.answer for item in items], dtype=np.int32))


def _alike(items: Sequence[ChoiceItem]) -> Iterator[list[int]]:
    """Numbers of items that can be asked at once: prompts of one length with as many continuations each."""
    groups: dict[tuple[int, int], list[int]] = {}
    for number, item in enumerate(items):
        groups.setdefault((len(item.prompt), len(item.choices)), []).append(number)
    for numbers in groups.values():
        yield from (numbers[start : start + AT_ONCE] for start in range(0, len(numbers), AT_ONCE))


def _likelihood(logits: NDArray[np.float32], ids: Sequence[int]) -> float:
    """Mean log-likelihood of the ids; in place, as temporaries as wide as a vocabulary cost more than the sums."""
    wanted = logits[np.arange(len(ids)), list(ids)].astype(np.float64)
    top = logits.max(axis=-1, keepdims=True)
    np.subtract(logits, top, out=logits)
    np.exp(logits, out=logits)
    norm = top[:, 0].astype(np.float64) + np.log(logits.sum(axis=-1, dtype=np.float64))
    return float((wanted - norm).mean())


@dataclass(frozen=True)
class TaskAccuracy:
    """A variant's choices compared with the reference's, on the same items."""

    choices: int  # items
    task_accuracy: float
    task_retention: float  # accuracy / the reference's
    task_retention_low: float | None  # paired bootstrap interval; None where the sample gives none
    task_retention_high: float | None
    flips_lost: int  # the reference was right and the variant is not
    flips_gained: int
    mcnemar_p: float  # that flips in both directions are equally likely


def compare_choices(variant: Chosen, reference: Chosen, level: float = LEVEL) -> TaskAccuracy:
    """Compare on the items both weighed; raises ValueError when they differ or there are none."""
    if not len(variant.answer) or not np.array_equal(variant.answer, reference.answer):
        raise ValueError("variant and reference did not choose on the same items")
    ours, theirs = variant.right, reference.right
    lost, gained = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
    interval: Interval | None = paired_retention(ours, theirs, level)
    return TaskAccuracy(
        choices=len(ours),
        task_accuracy=float(ours.mean()),
        task_retention=float(ours.sum() / theirs.sum()) if theirs.any() else float("nan"),
        task_retention_low=None if interval is None else interval.low,
        task_retention_high=None if interval is None else interval.high,
        flips_lost=lost,
        flips_gained=gained,
        mcnemar_p=mcnemar_mid_p(lost, gained),
    )
