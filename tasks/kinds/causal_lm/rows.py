"""Text for language models: split rows without overlap, turn them into the token ids all runtimes share."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Callable, Sequence

from tasks.errors import DataError
from tasks.kinds.reading import Texts
from tasks.params.pipeline import Data
from tasks.records.base import Record

Encode = Callable[[str], list[int]]

PROBE_ROWS = 6


class EvaluationRow(Record):
    text: str
    ids: tuple[int, ...]


class EvaluationSet(Record):
    """Rows every runtime scores, as token ids; row i predicts ids[1:] from ids[:-1]."""

    rows: tuple[EvaluationRow, ...]
    looks: tuple[int, ...]  # numbers of rows, growing, at which it is asked whether the gates are decided


class CalibrationSet(Record):
    """Texts a quantizer may look at; none of them is evaluated."""

    texts: tuple[str, ...]


class Prompts(Record):
    """Token ids for timing: every prompt differs from its first token on, so that prefix caches do not flatter."""

    short: tuple[tuple[int, ...], ...]
    long: tuple[tuple[int, ...], ...]
    longest: tuple[tuple[int, ...], ...] = ()  # one, where the data has so much text
    most: int | None = None  # tokens that a prompt may have; None: the model's context is not known


class Probe(Record):
    """A text for the sanity forward, and an instruction for the sanity text."""

    ids: tuple[int, ...]
    question: str
    question_ids: tuple[int, ...]


class Splits(Record):
    """Disjoint parts of one source, as texts."""

    evaluation: tuple[str, ...]
    calibration: tuple[str, ...]
    probe: tuple[str, ...]
    spare: tuple[str, ...]  # neither evaluated nor calibrated on, while there are such

    @property
    def uncalibrated(self) -> tuple[str, ...]:
        """Texts that no quantizer looks at: what is left over, then what is evaluated."""
        known = set(self.calibration) | set(self.probe)
        return tuple(text for text in (*self.spare, *self.evaluation) if text not in known)


def split(texts: Texts, calibration: Texts | None, params: Data) -> Splits:
    """Shuffle by seed and split; raises DataError, with what was left out, where too few rows are there.

    Calibration and probe are taken from the front and evaluation from the back, from the last row on, so that fewer
    evaluation rows (the quick profile) leave everything a conversion depends on as it is.
    """
    pool = list(texts.rows)
    random.Random(params.seed).shuffle(pool)  # noqa: S311 - a reproducible split, no secret
    front = params.calibration_rows if calibration is None else 0
    _require(
        params.source,
        texts,
        params.evaluation_rows + front,
        "data.evaluation_rows" + " + data.calibration_rows" * bool(front),
    )
    if calibration is not None:
        _require(str(params.calibration_source), calibration, params.calibration_rows, "data.calibration_rows")
    wanted = max(params.evaluation_rows, min(params.all_rows, len(pool) - front))  # what is there of `data.extra_share`
    chosen = pool[:front] if calibration is None else list(calibration.rows)[: params.calibration_rows]
    spare = pool[front : len(pool) - wanted] or chosen
    return Splits(
        evaluation=tuple(reversed(pool[len(pool) - wanted :])),
        calibration=tuple(chosen),
        probe=tuple(spare[:PROBE_ROWS]),
        spare=tuple(spare),
    )


def _require(source: str, texts: Texts, needed: int, asked: str) -> None:
    if len(texts.rows) < needed:
        told = "".join(f"; {words}" for words in texts.words)
        raise DataError(
            f"{source}: {len(texts.rows)} usable rows, needs {needed} ({asked}){told}; "
            "add rows or lower these parameters"
        )


def evaluation_set(texts: Sequence[str], encode: Encode, params: Data) -> EvaluationSet:
    """Token ids of each text, cut to `data.max_tokens`."""
    rows = tuple(EvaluationRow(text=t, ids=tuple(encode(t)[: params.max_tokens])) for t in texts)
    return EvaluationSet(rows=rows, looks=no_more_than(len(rows), params.looks(params.evaluation_rows)))


def no_more_than(count: int, looks: Sequence[int]) -> tuple[int, ...]:
    """Looks at a sample that holds only `count` of what they ask for.

    >>> no_more_than(50, (16, 40, 60))
    (16, 40, 50)
    """
    return tuple(sorted({min(look, count) for look in looks}))


def prompts(texts: Sequence[str], encode: Encode, params: Data) -> Prompts:
    """Distinct prompts of two exact lengths, cut from running text at different places."""
    stream = [token for text in texts[: 4 * params.prompts * 4] for token in encode(text + "\n\n")]
    lengths = (params.prompt_tokens_short, params.prompt_tokens_long)
    if len(stream) <= max(lengths):
        raise DataError(f"{params.source}: {len(stream)} tokens are too few for a prompt of {max(lengths)}")

    def cut(length: int) -> tuple[tuple[int, ...], ...]:
        step = max(1, (len(stream) - length) // params.prompts)
        return tuple(tuple(stream[i * step : i * step + length]) for i in range(params.prompts))

    wanted = params.prompt_tokens_longest
    longest = (tuple(stream[-wanted:]),) if len(stream) > wanted else ()
    return Prompts(short=cut(lengths[0]), long=cut(lengths[1]), longest=longest)


def probe(texts: Sequence[str], encode: Encode, tokens: int) -> Probe:
    """The sanity probe: running text of `tokens` tokens, said again where it is shorter, and one question to answer."""
    question = "Question: Which city is the capital of France?\nAnswer:"
    ids = encode("\n\n".join(texts))
    return Probe(
        ids=tuple(itertools.islice(itertools.cycle(ids), tokens)),
        question=question,
        question_ids=tuple(encode(question)),
    )


def digest(texts: Sequence[str]) -> str:
    """SHA-256 over the texts, in order."""
    return hashlib.sha256(json.dumps(list(texts), ensure_ascii=False).encode()).hexdigest()
