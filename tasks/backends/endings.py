"""Several endings after one prompt: one by one, or filled up to rows of one length."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.backends.base import Logits, TokenScorer


def endings_apart(
    session: TokenScorer, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
) -> list[list[Logits]]:
    """Answer as `score_after` does, by processing the prompt anew for each ending."""
    return [
        [session.score([*prompt, *ending])[len(prompt) - 1 : -1] for ending in own]
        for prompt, own in zip(prompts, endings, strict=True)
    ]


def padded(endings: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    """All endings in a row, filled up to the longest; what is after an ending's end is seen by nothing before it."""
    flat = [ending for own in endings for ending in own]
    longest = max(len(ending) for ending in flat)
    return [[*ending, *([0] * (longest - len(ending)))] for ending in flat]


def unpadded(logits: Logits, endings: Sequence[Sequence[Sequence[int]]]) -> list[list[Logits]]:
    """Rows of `padded` back to each prompt's endings, cut to their lengths; logits (rows, longest, vocabulary)."""
    rows = iter(logits)
    return [[next(rows)[: len(ending)] for ending in own] for own in endings]
