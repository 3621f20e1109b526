"""Tokenizers built from a GGUF's vocabulary, of each kind, make llama.cpp's ids; else they are refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import Tokenizer

from tasks.errors import ModelError
from tasks.kinds.causal_lm.incoming.gguf_tokenizer import read_vocabulary, write_tokenizer
from tasks.kinds.causal_lm.incoming.vocabulary import CUTS, NORMAL, SAME_AS, Vocabulary, candidates

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"()-=+<>/é"
WORDS = ("he", "ll", "o", "the", "th", "in", "an", "er", "re", "ing", "wor", "ld", "world", "hell", "hello")
CONTROL, USER, UNKNOWN, BYTE = 3, 4, 2, 6


def written(
    file: Path, model: str, tokens: Sequence[str], types: Sequence[int], *, architecture: str = "llama",
    scores: Sequence[float] = (), merges: Sequence[str] = (), pre: str = "", **flags: Any,
) -> Path:  # fmt: skip
    """A GGUF of a vocabulary and no weights."""
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_tokenizer_model(model)
    writer.add_token_list(list(tokens))
    writer.add_token_types(list(types))
    if scores:
        writer.add_token_scores(list(scores))
    if merges:
        writer.add_token_merges(list(merges))
    if pre:
        writer.add_tokenizer_pre(pre)
    for name, value in flags.items():
        {bool: writer.add_bool, int: writer.add_uint32}[type(value)](f"tokenizer.ggml.{name}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def sentence_piece(file: Path, *, prefix: bool = True, user: Sequence[str] = ()) -> Path:
    """SentencePiece's pairs: byte tokens, letters with and without the mark of a space, words by their scores."""
    head = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = ["▁", *LETTERS, *(f"▁{letter}" for letter in LETTERS), *WORDS, *(f"▁{word}" for word in WORDS), "▁▁"]
    named = list(dict.fromkeys(pieces))
    tokens = [*head, *named, *user]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(named), *[USER] * len(user)]
    scores = [0.0] * len(head) + [-float(n) for n in range(len(named), 0, -1)] + [0.0] * len(user)
    return written(
        file, "llama", tokens, types, scores=scores, bos_token_id=1, eos_token_id=2, unknown_token_id=0,
        add_bos_token=True, add_space_prefix=prefix,
    )  # fmt: skip


def byte_level(file: Path, pre: str) -> Path:
    """Pairs of bytes, with a merge for every word."""
    shown = {byte: chr(byte) for byte in [*range(33, 127), *range(161, 173), *range(174, 256)]}
    for number, byte in enumerate(byte for byte in range(256) if byte not in shown):
        shown[byte] = chr(256 + number)
    letters = sorted(shown.values())
    merges, made = [], list(letters)
    for word in ("Ġ t", "Ġt h", "i n", "a n", "Ġth e", "1 2", "12 3", "Ġ 1", "Ċ Ċ", "Ġ Ġ", "e r", "' s", "' S"):
        first, second = word.split(" ")
        merges.append(word)
        made.append(first + second)
    tokens = [*made, "<|endoftext|>", "<|im_end|>"]
    types = [*[NORMAL] * len(made), CONTROL, CONTROL]
    end = len(made)
    return written(
        file, "gpt2", tokens, types, merges=merges, pre=pre, bos_token_id=end, eos_token_id=end, add_bos_token=False
    )


def unigrams(file: Path) -> Path:
    """SentencePiece's unigrams."""
    pieces = ["▁", *LETTERS, *WORDS, *(f"▁{word}" for word in WORDS)]
    named = list(dict.fromkeys(pieces))
    tokens = ["<pad>", "</s>", "<unk>", *named]
    types = [CONTROL, CONTROL, UNKNOWN, *[NORMAL] * len(named)]
    scores = [0.0, 0.0, 0.0, *(-2.0 - 8.0 / len(piece) for piece in named)]
    return written(
        file, "t5", tokens, types, architecture="t5", scores=scores, eos_token_id=1, unknown_token_id=2,
        padding_token_id=0, add_bos_token=False, add_eos_token=True, add_space_prefix=True,
        remove_extra_whitespaces=True,
    )  # fmt: skip


def ids(folder: Path, text: str) -> list[int]:
    return list(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids)


@pytest.mark.parametrize(("prefix", "user"), [(True, ()), (False, ()), (False, ("<start>", "\n\n", "▁▁▁"))])
def test_sentence_pieces(tmp_path: Path, prefix: bool, user: Sequence[str]) -> None:
    file = sentence_piece(tmp_path / "a.gguf", prefix=prefix, user=user)
    assert write_tokenizer(file, tmp_path) == (2,)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (settings["bos_token"], settings["eos_token"], settings["unk_token"]) == ("<s>", "</s>", "<unk>")
    made = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert made.encode("hello world").ids[0] == 1, "the beginning token that the file asks for"
    for text in ("hello world", "  two spaces", "é 漢 🙂", "the end\n"):
        assert made.decode(made.encode(text, add_special_tokens=False).ids) == text


@pytest.mark.parametrize("pre", [*CUTS, "command-r"])
def test_pairs_of_bytes_with_each_way_of_cutting_words(tmp_path: Path, pre: str) -> None:
    write_tokenizer(byte_level(tmp_path / "a.gguf", pre), tmp_path)
    assert ids(tmp_path, "the <|im_end|>")[-1] == max(ids(tmp_path, "<|im_end|>"))


def test_each_other_name_of_a_cut_is_one_of_those_known() -> None:
    assert set(SAME_AS.values()) <= set(CUTS) and not set(SAME_AS) & set(CUTS)


def test_a_file_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match="holds no tokenizer"):
        write_tokenizer(tmp_path / "a.gguf", tmp_path)


def test_a_kind_that_is_not_known_is_refused() -> None:
    words = Vocabulary("rwkv", "", ["a"], [NORMAL], [0.0], [], None, None, None, False, False, False)
    with pytest.raises(ModelError, match="of the kind 'rwkv'; allowed: llama, gpt2, t5, bert"):
        next(candidates(words))


def test_one_that_cannot_be_made_equal_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.kinds.causal_lm.incoming import gguf_tokenizer

    def another(gguf_file: Path, theirs: Any) -> Vocabulary:
        found = read_vocabulary(gguf_file, theirs)
        return Vocabulary(**{**vars(found), "space_prefix": not found.space_prefix})

    monkeypatch.setattr(gguf_tokenizer, "read_vocabulary", another)
    with pytest.raises(ModelError, match="cuts text as llama.cpp does, the likeliest differs on 'Hello world 123'"):
        write_tokenizer(sentence_piece(tmp_path / "a.gguf"), tmp_path)


def test_unigrams(tmp_path: Path) -> None:
    write_tokenizer(unigrams(tmp_path / "a.gguf"), tmp_path)
    assert ids(tmp_path, "hello")[-1] == 1


def word_pieces(file: Path) -> Path:
    """WordPiece: a token that begins a word has SentencePiece's mark, one inside of a word is bare."""
    letters = [letter for letter in dict.fromkeys(LETTERS.lower()) if letter != "é"]
    words = ("hello", "world", "the", "def")
    named = [*(f"▁{one}" for one in (*letters, *words)), *(one for one in letters if one.isalnum()), "llo", "ing"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *named]
    return written(
        file, "bert", tokens, [CONTROL, UNKNOWN, CONTROL, CONTROL, *[NORMAL] * len(named)], architecture="bert",
        unknown_token_id=1, bos_token_id=2, eos_token_id=3, seperator_token_id=3, padding_token_id=0, cls_token_id=2,
        add_bos_token=True, add_eos_token=True,
    )  # fmt: skip


def test_word_pieces(tmp_path: Path) -> None:
    write_tokenizer(word_pieces(tmp_path / "a.gguf"), tmp_path)
    found = ids(tmp_path, "Hello, world")
    assert (found[0], found[-1]) == (2, 3) and 1 not in found
