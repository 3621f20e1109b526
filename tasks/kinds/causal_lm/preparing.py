"""A language model's data: split text into calibration and evaluation, check it, fix the ids all runtimes share."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tasks.errors import DataError
from tasks.kinds import reading
from tasks.kinds.base import Calibration, DataCard, Prepared
from tasks.kinds.causal_lm import files, positions, rows
from tasks.kinds.causal_lm.describing import CONTEXT, read_config, size
from tasks.kinds.causal_lm.rows import CalibrationSet, Encode, Splits
from tasks.kinds.causal_lm.tasks import Encoder, task_set
from tasks.kinds.causal_lm.tokens import encoder
from tasks.kinds.reading import Texts
from tasks.params.pipeline import Convert, Data

ROOM = 128  # tokens of a model's context that are left for what it writes
LENGTHS = ("max_tokens", "prompt_tokens_short", "prompt_tokens_long", "prompt_tokens_longest")
SHORTEST = 8  # tokens of a row; shorter ones have too few predictions to say anything
ENOUGH = 400  # characters, in which the shortest row's tokens are found
MOST_ROWS = 50_000  # of a source; of more a part is drawn, as each is read by the tokenizer


def refuse(params: Data) -> None:
    """Raise DataError for texts or tasks that cannot be read."""
    for source in filter(None, (params.source, params.calibration_source)):
        reading.read_rows(source, params.columns)
    if params.tasks and not Path(params.tasks).expanduser().is_file():
        raise DataError(f"data.tasks {params.tasks!r} is not there; allowed: a .jsonl file, or null")


def prepare(params: Data, convert: Convert, tokenizer: Path, out: Path) -> Prepared:
    """Write the data into the folder `out`; raises DataError for a source that cannot be read or is too small."""
    encode = encoder(tokenizer)
    context, config = context_of(tokenizer), config_of(tokenizer)
    params, capped = within(params, context)
    own = usable(params.calibration_source, encode, params) if params.calibration_source else None
    texts = usable(params.source, encode, params)
    if own is not None:
        texts = texts.without(set(own.rows).__contains__, "of the calibration text")
    splits = rows.split(texts, own, params)
    evaluation = rows.evaluation_set(splits.evaluation, encode, params)
    evaluation.write(out / files.EVALUATION)
    CalibrationSet(texts=splits.calibration).write(out / files.CALIBRATION)
    prompts = rows.prompts(splits.spare, encode, params).model_copy(update={"most": room_in(context) or None})
    prompts.write(out / files.PROMPTS)
    rows.probe(splits.probe, encode, positions.reach(config, convert.probe_tokens)).write(out / files.PROBE)
    asked = task_set(splits.uncalibrated, Encoder(tuple(encode("")), encoder(tokenizer, special=False)), params)
    asked.write(out / files.TASK_SET)
    card = DataCard(
        source=params.source,
        evaluation_rows=len(evaluation.rows),
        evaluation_tokens=sum(len(row.ids) for row in evaluation.rows),
        calibration_rows=len(splits.calibration),
        choices=len(asked.choices),
        answers=len(asked.open),
        evaluation_sha256=rows.digest(splits.evaluation),
        calibration_sha256=rows.digest(splits.calibration),
        notes=(*capped, *texts.words, *(own.words if own else ())),
        checks=(),
    )
    found = checked_rows(splits, tokenizer, params)
    return Prepared(card=card, rows=found, sizes=(SHORTEST, params.max_tokens), unit="tokens")


def context_of(model: Path) -> int:
    """How many tokens the model reads at once, by its configuration; 0 where that is not said."""
    return size(config_of(model), CONTEXT)


def config_of(model: Path) -> dict[str, Any]:
    """The model's configuration; empty where there is none."""
    return read_config(model) if (model / "config.json").is_file() else {}


def room_in(context: int) -> int:
    """Tokens that a prompt may have in a context; 0 where that is not known."""
    return max(SHORTEST, context - min(ROOM, context // 2)) if context else 0


def within(params: Data, context: int) -> tuple[Data, tuple[str, ...]]:
    """Lengths that fit into the model's context, with room for what it writes; and a note where they had to be cut.

    >>> within(Data(), 512)[0].prompt_tokens_longest
    384
    """
    most = room_in(context)
    longer = [name for name in LENGTHS if context and getattr(params, name) > most]
    if not longer:
        return params, ()
    told = ", ".join(f"data.{name}" for name in longer)
    note = f"the model reads {context} tokens at once: {told} cut to {most}"
    return params.model_copy(update=dict.fromkeys(longer, most)), (note,)


def usable(source: str, encode: Encode, params: Data) -> Texts:
    """Rows of a source that are long enough, of very many a part drawn by the seed; what is left out is counted."""
    texts = reading.read_rows(source, params.columns)
    if len(texts.rows) > MOST_ROWS:
        dice = random.Random(params.seed)  # noqa: S311 - reproducible, no secret
        told = f"{MOST_ROWS:,} of {len(texts.rows):,} rows were drawn"
        texts = Texts(tuple(dice.sample(texts.rows, MOST_ROWS)), (*texts.notes, told), texts.left_out)
    return texts.without(lambda row: len(encode(row[:ENOUGH])) < SHORTEST, f"of fewer than {SHORTEST} tokens")


def calibration(data: Path) -> Calibration:
    """Read the texts that a quantizer may look at."""
    return Calibration(texts=CalibrationSet.read(data / files.CALIBRATION).texts)


def checked_rows(splits: Splits, tokenizer: Path, params: Data) -> list[dict[str, object]]:
    """Every row of both splits as the data checks want it: split, text, tokens, digest."""
    encode = encoder(tokenizer)
    parts = {"evaluation": splits.evaluation, "calibration": splits.calibration}
    return [
        {
            "split": name,
            "text": text,
            "size": len(encode(text)[: params.max_tokens]),
            "sha256": rows.digest([text]),
        }
        for name, texts in parts.items()
        for text in texts
    ]
