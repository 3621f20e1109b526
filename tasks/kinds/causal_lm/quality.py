"""Quality of a variant against the reference on the same tokens, with standard errors that respect rows.

Tokens of one row are not independent, so rows are the sampling units: every standard error is that of a ratio
estimator over rows, sqrt(R / (R - 1) * sum(residual_r ** 2)) / sum(weight_r) (Cochran, Sampling Techniques, 3rd ed.,
section 6.4 with rows as clusters).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import TokenScorer
from tasks.measure.statistics import percentile

Floats = NDArray[np.float64]

CHUNK = 16  # positions judged at once


@dataclass(frozen=True)
class Tokens:
    """Per-prediction arrays of one variant, all of one length."""

    row: NDArray[np.int32]  # index of the row each prediction belongs to
    nll: Floats  # -log p(token), nats
    correct: NDArray[np.bool_]  # the most likely token is the text's
    agree: NDArray[np.bool_]  # the most likely token is the reference's
    kl: Floats  # KL(reference || variant), nats

    def save(self, path: Path) -> None:
        """Write as .npz."""
        np.savez_compressed(path, row=self.row, nll=self.nll, correct=self.correct, agree=self.agree, kl=self.kl)

    @staticmethod
    def load(path: Path) -> Tokens:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return Tokens(**{name: stored[name] for name in ("row", "nll", "correct", "agree", "kl")})

    @staticmethod
    def none() -> Tokens:
        """No predictions yet."""
        return _concatenate([])

    @property
    def rows(self) -> int:
        """Number of rows that were scored."""
        return int(self.row[-1]) + 1 if len(self.row) else 0

    def joined(self, later: Tokens) -> Tokens:
        """These rows, then the others, numbered on."""
        return _concatenate([self, replace(later, row=later.row + np.int32(self.rows))])

    def like(self, other: Tokens) -> Tokens:
        """Only the predictions that `other` has too: of each of its rows as many, from the start."""
        starts = np.searchsorted(self.row, self.row)  # rows stand in order
        wanted = np.bincount(other.row, minlength=int(self.row.max()) + 1)
        keep = np.arange(len(self.row)) - starts < wanted[self.row]
        return Tokens(self.row[keep], self.nll[keep], self.correct[keep], self.agree[keep], self.kl[keep])


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probabilities along the last axis, shifted by the maximum so that nothing overflows."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def kl_divergence(reference: NDArray[np.floating], variant: NDArray[np.float32]) -> Floats:
    """KL(reference || variant) per row of two arrays of log-probabilities, shape (n, vocabulary), in nats."""
    ours = reference.astype(np.float32)
    per_row: Floats = np.einsum("ij,ij->i", np.exp(ours), ours - variant).astype(np.float64)
    return per_row


def score_row(logits: NDArray[np.float32], ids: NDArray[np.int64], reference: NDArray[np.floating] | None) -> Tokens:
    """Judge one row: logits (n, vocabulary) for ids (n,); the reference as log-probabilities (n - 1, vocabulary).

    Works in chunks of positions whose temporaries stay in the cache; a whole row's would be paged in again each time.
    """
    return _concatenate(
        [
            _score_chunk(
                logits[start : min(start + CHUNK, len(ids) - 1)],
                ids[start + 1 : start + 1 + CHUNK],
                None if reference is None else reference[start : start + CHUNK],
            )
            for start in range(0, len(ids) - 1, CHUNK)
        ]
    )


def _score_chunk(logits: NDArray[np.float32], target: NDArray[np.int64], base: NDArray[np.floating] | None) -> Tokens:
    logp = log_softmax(logits)
    top = logp.argmax(axis=-1)
    return Tokens(
        row=np.zeros(len(target), dtype=np.int32),
        nll=-logp[np.arange(len(target)), target].astype(np.float64),
        correct=top == target,
        agree=np.ones(len(target), dtype=np.bool_) if base is None else top == base.argmax(axis=-1),
        kl=np.zeros(len(target)) if base is None else kl_divergence(base, logp),
    )


def _concatenate(parts: list[Tokens]) -> Tokens:
    kinds = (np.int32, np.float64, np.bool_, np.bool_, np.float64)
    return Tokens(
        *(
            np.concatenate([np.empty(0, dtype=kind), *(getattr(part, field.name) for part in parts)])
            for field, kind in zip(fields(Tokens), kinds, strict=True)
        )
    )


def join(parts: list[Tokens]) -> Tokens:
    """Put scored parts one after another and number their rows anew."""
    whole = _concatenate(parts)
    return replace(whole, row=np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.nll) for part in parts]))


def score_rows(
    session: TokenScorer,
    rows: Sequence[Sequence[int]],
    reference: NDArray[np.floating],
    longest: int = 0,
    begin: int = 0,
) -> Tokens:
    """Judge the rows from `begin` on by a loaded artifact; of each only the first `longest` tokens, 0: all.

    `reference` holds log-probabilities of all rows one below the other, shape (sum(len(row) - 1), vocabulary).
    """
    parts, start = [], sum(len(row) - 1 for row in rows[:begin])
    for row in rows[begin:]:
        ids = row[: longest or None]
        parts.append(score_row(session.score(ids), np.array(ids), reference[start : start + len(ids) - 1]))
        start += len(row) - 1
    return join(parts)


def ratio_with_se(value: Floats, weight: Floats, row: NDArray[np.int32]) -> tuple[float, float | None]:
    """sum(value) / sum(weight) and its standard error over rows; None with fewer than two rows."""
    rows = int(row.max()) + 1 if len(row) else 0
    values = np.bincount(row, weights=value, minlength=rows)
    weights = np.bincount(row, weights=weight, minlength=rows)
    total = weights.sum()
    if total == 0:
        return float("nan"), None
    ratio = values.sum() / total
    if rows < 2:
        return float(ratio), None
    residual = values - ratio * weights
    return float(ratio), float(np.sqrt(rows / (rows - 1) * (residual**2).sum()) / total)


@dataclass(frozen=True)
class Quality:
    """Figures of one variant; a standard error is None when there are too few rows for one."""

    rows: int
    predictions: int
    perplexity: float
    perplexity_se: float | None
    perplexity_ratio: float
    perplexity_ratio_se: float | None
    next_token_accuracy: float
    retention: float
    retention_se: float | None
    top_agreement: float
    top_agreement_se: float | None
    mean_kl: float
    mean_kl_se: float | None
    median_kl: float
    p99_kl: float | None


def summarise(variant: Tokens, reference: Tokens) -> Quality:
    """Compare a variant with the reference on the rows both scored; raises ValueError when they differ."""
    if not np.array_equal(variant.row, reference.row):
        raise ValueError("variant and reference were not scored on the same tokens")
    one = np.ones(len(variant.nll))
    mean_nll, nll_se = ratio_with_se(variant.nll, one, variant.row)
    difference, difference_se = ratio_with_se(variant.nll - reference.nll, one, variant.row)
    # a retention is a ratio of two sums; its residual per row is correct_v - retention * correct_ref
    retention, retention_se = ratio_with_se(variant.correct.astype(float), reference.correct.astype(float), variant.row)
    agreement, agreement_se = ratio_with_se(variant.agree.astype(float), one, variant.row)
    mean_kl, kl_se = ratio_with_se(variant.kl, one, variant.row)
    return Quality(
        rows=int(variant.row.max()) + 1,
        predictions=len(one),
        perplexity=float(np.exp(mean_nll)),
        perplexity_se=None if nll_se is None else float(np.exp(mean_nll) * nll_se),
        perplexity_ratio=float(np.exp(difference)),
        perplexity_ratio_se=None if difference_se is None else float(np.exp(difference) * difference_se),
        next_token_accuracy=float(variant.correct.mean()),
        retention=retention,
        retention_se=retention_se,
        top_agreement=agreement,
        top_agreement_se=agreement_se,
        mean_kl=mean_kl,
        mean_kl_se=kl_se,
        median_kl=float(np.median(variant.kl)),
        p99_kl=percentile(variant.kl.tolist(), 0.99),
    )
