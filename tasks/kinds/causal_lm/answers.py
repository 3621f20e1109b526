"""Answers in words, side by side with the reference's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

from tasks.backends.base import TokenSpeaker
from tasks.kinds.causal_lm.tasks import OpenItem
from tasks.records.base import Record


class Answer(Record):
    """One prompt and the greedy continuation of it."""

    prompt: str
    text: str
    ids: tuple[int, ...]
    expected: str = ""
    similarity: float | None = None  # to the reference's answer, 0 to 1, over token ids
    similarity_expected: float | None = None  # to the user's, over words


class Answers(Record):
    answers: tuple[Answer, ...] = ()

    @property
    def similarity(self) -> float | None:
        """Mean similarity to the reference's answers."""
        known = [one.similarity for one in self.answers if one.similarity is not None]
        return sum(known) / len(known) if known else None

    @property
    def similarity_expected(self) -> float | None:
        """Mean similarity to the user's own answers."""
        known = [one.similarity_expected for one in self.answers if one.similarity_expected is not None]
        return sum(known) / len(known) if known else None


def similarity(ours: Sequence[object], theirs: Sequence[object]) -> float:
    """Share of two sequences that they have in common, in order: 2 * matches / total (Ratcliff and Obershelp 1988).

    >>> similarity("the cat sat".split(), "the dog sat".split())
    0.6666666666666666
    """
    return SequenceMatcher(None, ours, theirs, autojunk=False).ratio()


def answer(
    session: TokenSpeaker, items: Sequence[OpenItem], tokens: int, decode: Callable[[list[int]], str]
) -> Answers:
    """Continue each prompt greedily; similarity to the user's own answers where there are such."""
    made = []
    for item in items:
        ids = session.generate(item.prompt, tokens)
        text = decode(ids)
        own = similarity(text.split(), item.expected.split()) if item.expected else None
        made.append(
            Answer(prompt=item.text, text=text, ids=tuple(ids), expected=item.expected, similarity_expected=own)
        )
    return Answers(answers=tuple(made))


def beside(ours: Answers, reference: Answers) -> Answers:
    """Add to each answer its similarity to as much of the reference's answer to the same prompt."""
    known = {one.prompt: one for one in reference.answers}
    return Answers(
        answers=tuple(
            one.model_copy(update={"similarity": similarity(one.ids, known[one.prompt].ids[: len(one.ids)])})
            if one.prompt in known
            else one
            for one in ours.answers
        )
    )
