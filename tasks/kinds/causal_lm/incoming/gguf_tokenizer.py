"""The tokenizer of a GGUF file: built from its own vocabulary, and taken only where llama.cpp cuts all probes alike."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.errors import ModelError
from tasks.kinds.causal_lm.incoming.probes import difference, with_special
from tasks.kinds.causal_lm.incoming.vocabulary import BYTE, NORMAL, Vocabulary, candidates
from tasks.sources import gguf as gguf_file

KEY = "tokenizer.ggml."
SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def write_tokenizer(gguf: Path, out: Path) -> tuple[int, ...]:
    """Write the GGUF's tokenizer into the folder `out` in Hugging Face's form; returns the tokens that end an answer.

    These are those at which llama.cpp ends one. Raises ModelError where no tokenizer can be made equal.

    Its ids are llama.cpp's on every probe. Special tokens and what is added to a text are those of the file.
    """
    from transformers import PreTrainedTokenizerFast

    fields = gguf_file.read(gguf).fields
    if f"{KEY}tokens" not in fields:
        raise ModelError(
            f"{gguf.name} holds no tokenizer; give the file as it was published, or the Hugging Face directory"
        )
    with _llama_cpp(gguf) as theirs:
        words = read_vocabulary(gguf, theirs)
        made = _equal(gguf, words, theirs)
        ends = theirs.ends()
    special = {name: _token(gguf, words, key) for name, key in SPECIAL.items()}
    named = {name: token for name, token in special.items() if token is not None}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False, **named)
    tokenizer.chat_template = gguf_file.metadata(gguf_file.read(gguf), "tokenizer.chat_template")
    tokenizer.save_pretrained(out)
    made.save(str(out / "tokenizer.json"))  # the library adds tokens while it saves: what was proven is kept
    return ends


def read_vocabulary(gguf: Path, theirs: _Theirs) -> Vocabulary:
    """The file's own words; what it leaves unsaid is as llama.cpp takes it."""
    tokens = list(gguf_file.metadata(gguf_file.read(gguf), f"{KEY}tokens"))
    model = str(gguf_file.metadata(gguf_file.read(gguf), f"{KEY}model", ""))
    prefix = gguf_file.metadata(gguf_file.read(gguf), f"{KEY}add_space_prefix")
    return Vocabulary(
        model=model,
        pre=str(gguf_file.metadata(gguf_file.read(gguf), f"{KEY}pre", "default")),
        tokens=tokens,
        types=list(gguf_file.metadata(gguf_file.read(gguf), f"{KEY}token_type", [NORMAL] * len(tokens))),
        scores=list(gguf_file.metadata(gguf_file.read(gguf), f"{KEY}scores", [0.0] * len(tokens))),
        merges=list(gguf_file.metadata(gguf_file.read(gguf), f"{KEY}merges", [])),
        unknown=gguf_file.metadata(gguf_file.read(gguf), f"{KEY}unknown_token_id", 0 if model == "llama" else None),
        bos=theirs.bos,
        eos=theirs.eos,
        add_bos=theirs.add_bos,
        add_eos=theirs.add_eos,
        space_prefix=bool(prefix) if prefix is not None else model in ("llama", "t5"),
        squeeze=bool(gguf_file.metadata(gguf_file.read(gguf), f"{KEY}remove_extra_whitespaces", False)),
        charsmap=bytes(gguf_file.metadata(gguf_file.read(gguf), f"{KEY}precompiled_charsmap", b"")),
    )


def _equal(gguf: Path, words: Vocabulary, theirs: _Theirs) -> Any:
    """The first candidate that cuts every probe as llama.cpp does."""
    probes, first = with_special(words.special), ""
    for made in candidates(words):

        def encode(text: str, made: Any = made) -> list[int]:
            return list(made.encode(text, add_special_tokens=False).ids)

        found = difference(theirs.encode, encode, probes)
        if not found:
            return made
        first = first or found
    raise ModelError(
        f"{gguf.name}: no tokenizer built from it cuts text as llama.cpp does, the likeliest differs on {first}; "
        "give the original Hugging Face directory instead"
    )


def _token(gguf: Path, words: Vocabulary, key: str) -> str | None:
    """The text of a special token that the file names; of those at the ends as llama.cpp takes them."""
    number = {"bos": words.bos, "eos": words.eos}.get(
        key, gguf_file.metadata(gguf_file.read(gguf), f"{KEY}{key}_token_id")
    )
    if number is None or not 0 <= number < len(words.tokens) or words.types[number] == BYTE:
        return None
    return str(words.tokens[number])


class _Theirs:
    """llama.cpp's own tokenizer of the file."""

    def __init__(self, model: Any) -> None:
        """`model` is a llama.cpp model of which at least the vocabulary was loaded."""
        import llama_cpp

        self._lib: Any = llama_cpp
        self._vocabulary = llama_cpp.llama_model_get_vocab(model)
        self.add_bos = bool(llama_cpp.llama_vocab_get_add_bos(self._vocabulary))
        self.add_eos = bool(llama_cpp.llama_vocab_get_add_eos(self._vocabulary))
        self.bos = self._known(llama_cpp.llama_vocab_bos(self._vocabulary))
        self.eos = self._known(llama_cpp.llama_vocab_eos(self._vocabulary))

    def _known(self, token: int) -> int | None:
        return int(token) if token >= 0 else None

    def encode(self, text: str) -> list[int]:
        """Ids of a text, special tokens in it read as such, none added."""
        raw = text.encode()
        room = len(raw) + 8  # a byte is a token at most
        ids = (self._lib.llama_token * room)()
        count = self._lib.llama_tokenize(self._vocabulary, raw, len(raw), ids, room, False, True)
        return list(ids[:count])

    def ends(self) -> tuple[int, ...]:
        """Tokens at which llama.cpp ends an answer."""
        count = int(self._lib.llama_vocab_n_tokens(self._vocabulary))
        return tuple(token for token in range(count) if self._lib.llama_vocab_is_eog(self._vocabulary, token))


@functools.cache
def quiet() -> Any:
    """Let llama.cpp print nothing in this process; what it cannot do is told by whoever asked."""
    import llama_cpp

    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    return silent  # kept, as llama.cpp goes on calling it


@contextmanager
def _llama_cpp(gguf: Path) -> Iterator[_Theirs]:
    import llama_cpp

    quiet()
    options = llama_cpp.llama_model_default_params()
    options.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(os.fsencode(gguf), options)
    if not model:
        raise ModelError(f"{gguf.name}: llama.cpp cannot read its vocabulary; fetch the file again")
    try:
        yield _Theirs(model)
    finally:
        llama_cpp.llama_model_free(model)
