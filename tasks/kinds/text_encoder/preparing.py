"""Texts to embed: a sentence taken out of each is what the rest of it is to be found by."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tasks.errors import DataError
from tasks.kinds import reading
from tasks.kinds.arrays import split
from tasks.kinds.arrays.split import calibration as calibration
from tasks.kinds.base import Prepared
from tasks.kinds.text_encoder import checkpoint
from tasks.kinds.text_encoder.checkpoint import Encoder
from tasks.kinds.text_encoder.words import MASK, rows
from tasks.params.pipeline import Convert, Data

DOCUMENT, QUERY = 0, 1
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
FEWEST = 12


def refuse(params: Data) -> None:
    """Raise DataError for a source that cannot be read."""
    reading.read_rows(params.source, params.columns)


def prepare(params: Data, convert: Convert, model: Path, out: Path) -> Prepared:
    """Write pairs of a sentence and the text that it was taken out of; raises DataError for too few texts."""
    told = Encoder.read(model / checkpoint.FILE)
    texts = reading.read_rows(params.source, params.columns)
    pairs = apart(pair for text in texts.rows if (pair := taken_out(text)))
    np.random.default_rng(params.seed).shuffle(pairs)
    held = pairs[: params.calibration_rows] if len(pairs) > 3 * params.calibration_rows else pairs[: len(pairs) // 3]
    kept = pairs[len(held) :][: params.evaluation_rows]
    if len(kept) < FEWEST:
        raise DataError(f"{params.source} has {len(kept)} texts of two sentences or more; at least {FEWEST} are needed")
    every = [*kept, *held]
    longest = min(told.max_tokens, params.max_tokens)
    encoded = rows(model, [side for pair in every for side in pair], longest)
    parts = {"evaluation": np.arange(2 * len(kept)), "calibration": np.arange(2 * len(kept), 2 * len(every))}
    places = np.arange(2 * len(every))
    labels = {"pair": places // 2, "side": places % 2}
    lengths = encoded.arrays[MASK].sum(1)
    return split.put(encoded, labels, parts, lengths, out, split.Said(params.source, "tokens", texts.words))


def apart(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of which no sentence and no text stands in an earlier one: the same sentence cannot find two texts.

    >>> apart([("a", "how many?"), ("b", "how many?"), ("a", "why?"), ("c", "when?")])
    [('a', 'how many?'), ('c', 'when?')]
    """
    found, seen = list[tuple[str, str]](), set[str]()
    for text, sentence in pairs:
        if text not in seen and sentence not in seen:
            found.append((text, sentence))
            seen |= {text, sentence}
    return found


def taken_out(text: str) -> tuple[str, str] | None:
    """The text without one sentence, and that sentence: of a question its last; None where there is one sentence alone.

    >>> taken_out("Tom has 3 apples. He eats one. How many are left?\\nTwo are left.")
    ('Tom has 3 apples. He eats one.', 'How many are left?')
    """
    first = text.strip().removeprefix("Question:").strip().split("\n")[0]
    sentences = [one for one in _SENTENCE.split(first) if one.strip()]
    return (" ".join(sentences[:-1]), sentences[-1]) if len(sentences) > 1 else None
