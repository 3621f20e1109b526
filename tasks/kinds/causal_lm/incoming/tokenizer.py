"""The tokenizer of a checkpoint: its own file kept byte for byte, proven to give the same ids to all who read it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tasks.errors import ModelError
from tasks.kinds.causal_lm.incoming.probes import difference, with_special
from tasks.kinds.causal_lm.incoming.words import first_line
from tasks.records.base import write_text
from tasks.sources import files as sources

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
PLAIN = "PreTrainedTokenizerFast"  # the class that takes tokenizer.json as it is
OTHER_FORMS = ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tekken.json")
BESIDE = (
    SETTINGS, "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json",
    "tokenizer.model", "vocab.json", "merges.txt",
)  # fmt: skip
REBUILT = ("backend", "auto_map", "tokenizer_file", "name_or_path", "vocab_file")  # settings of a class that is no more


def take(source: Path, out: Path, rows: int, name: str) -> tuple[str, ...]:
    """Write the tokenizer of the checkpoint in `source` into `out`; returns notes, raises ModelError.

    `rows` is how many tokens the model's embedding has. tokenizer.json is kept as it is, but for padding and truncation
    that were stored with it: these would change what is scored. Where transformers would make another tokenizer of it,
    as it does of some classes, the class is set to the one that takes the file as it is.
    """
    own = source / FILE
    if not own.is_file():
        _rebuilt(source, out, name)
        own = out / FILE
    else:
        for file in BESIDE:
            if (source / file).is_file():
                shutil.copyfile(source / file, out / file)
        shutil.copyfile(own, out / FILE)
    tokenizer = opened(own, name)
    notes = [_without_padding(tokenizer, out), _agreed(tokenizer, out, name), bounded(tokenizer, rows, name)]
    return tuple(note for note in notes if note)


def opened(file: Path, name: str) -> Any:
    """A `tokenizers.Tokenizer` of the file, padding and truncation switched off; raises ModelError."""
    from tokenizers import Tokenizer

    try:
        made = Tokenizer.from_file(str(file))
    except Exception as error:  # of its own kind, and of no class in particular
        raise ModelError(
            f"{name}: {file.name} cannot be read ({first_line(error)}): cut, or written by a later version of "
            "the library; fetch it again"
        ) from error
    made.no_padding()
    made.no_truncation()
    return made


def _rebuilt(source: Path, out: Path, name: str) -> None:
    """Write a tokenizer that is stored in another form than tokenizer.json."""
    from transformers import AutoTokenizer

    there = [file for file in OTHER_FORMS if (source / file).is_file()]
    if not there:
        raise ModelError(
            f"{name} has no tokenizer (tokenizer.json, or {', '.join(OTHER_FORMS)}); copy it from the model that it "
            "was trained from"
        )
    try:
        made = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        made.save_pretrained(out)
    except Exception as error:  # libraries of many tokenizers raise what they like
        raise ModelError(f"{name}: no tokenizer can be made of {', '.join(there)}: {first_line(error)}") from error
    if not (out / FILE).is_file():
        raise ModelError(
            f"{name}: no tokenizer.json can be made of {', '.join(there)}; save it by PreTrainedTokenizerFast"
        )


def _without_padding(tokenizer: Any, out: Path) -> str:
    stored = json.loads((out / FILE).read_text(encoding="utf-8"))
    told = [key for key in ("padding", "truncation") if stored.get(key) is not None]
    if not told:
        return ""
    tokenizer.save(str(out / FILE))
    return f"{' and '.join(told)} stored with the tokenizer were switched off"


def _agreed(tokenizer: Any, out: Path, name: str) -> str:
    """Let transformers make the same ids of what was written as the file's own tokenizer does."""
    probes = with_special(_special(tokenizer))

    def own(text: str) -> Sequence[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    problem, before = _compared(own, out, probes), _settings(out).get("tokenizer_class")
    note = ""
    if problem or before in (None, PLAIN):
        kept = {key: value for key, value in _settings(out).items() if key not in REBUILT}
        write_text(out / SETTINGS, json.dumps(kept | {"tokenizer_class": PLAIN}, ensure_ascii=False, indent=2) + "\n")
    if problem:
        note = (
            f"transformers makes another tokenizer of it by its class {before}: {problem}; the class was set to {PLAIN}"
        )
        problem = _compared(own, out, probes)
    if problem:
        raise ModelError(
            f"{name}: transformers makes another tokenizer of tokenizer.json: {problem}; fetch the model again"
        )
    return note


def _compared(own: Callable[[str], Sequence[int]], folder: Path, probes: Sequence[str]) -> str:
    from transformers import AutoTokenizer

    try:
        theirs = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - libraries of many tokenizers raise what they like
        return f"it cannot be opened ({first_line(error)})"

    def made(text: str) -> Sequence[int]:
        return list(theirs(text, add_special_tokens=False)["input_ids"])

    return difference(own, made, probes)


def _settings(folder: Path) -> dict[str, Any]:
    return sources.read_object(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}


def _special(tokenizer: Any) -> list[str]:
    return [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]


def bounded(tokenizer: Any, rows: int, name: str) -> str:
    """Refuse a tokenizer whose tokens are not the embedding's; a note where only added ones lie beyond it."""
    added = tokenizer.get_added_tokens_decoder()
    beyond = sorted(number for number in tokenizer.get_vocab(with_added_tokens=True).values() if number >= rows)
    if not beyond:
        return ""
    plain = [number for number in beyond if number not in added]
    if plain or len(beyond) > 0.01 * rows:
        raise ModelError(
            f"{name}: its tokenizer has ids up to {beyond[-1]}, its embedding {rows} rows: the tokenizer of another "
            "model, or tokens were added and the embedding was not resized (resize_token_embeddings)"
        )
    shown = ", ".join(added[number].content for number in beyond[:3])
    return f"{len(beyond)} added tokens lie beyond the embedding of {rows} rows and are refused in requests: {shown}"
