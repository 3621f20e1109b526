"""Where an answer ends: tokens that end a text, and those that end a turn of a conversation."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.errors import EdgewrightError
from tasks.records.base import write_text

FILE = "generation_config.json"


def write_ends(model: Path, more: Iterable[int] = ()) -> tuple[int, ...]:
    """Note in generation_config.json all tokens that end an answer of the model in the folder; returns them.

    They are those stated there and by the tokenizer, `more`, and what the chat template puts behind an answer.
    """
    from tasks.kinds.causal_lm.chat import Text
    from tasks.kinds.causal_lm.packing import converses

    chat = converses(model)
    text = Text(model, chat)
    found = sorted({*text.ends, *more, *(_after_a_turn(text) if chat else ())})
    known: dict[str, Any] = json.loads((model / FILE).read_text(encoding="utf-8")) if (model / FILE).is_file() else {}
    if found:
        stated: int | list[int] = found if len(found) > 1 else found[0]
        write_text(model / FILE, json.dumps(known | {"eos_token_id": stated}, indent=2) + "\n")
    return tuple(found)


def _after_a_turn(text: Any) -> tuple[int, ...]:
    """The special token that the template puts right behind what an assistant said; none where it has no such."""
    said = f"w{uuid.uuid4().hex}"
    try:
        shown = text.render([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": said}], ask=False)
    except EdgewrightError:
        return ()
    rest = shown.partition(said)[2].lstrip()
    return next(((number,) for token, number in text.special_tokens() if rest.startswith(token)), ())
