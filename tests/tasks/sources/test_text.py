"""Bytes of any encoding become text, and what is none is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import DataError
from tasks.sources.text import decode, mended

SAID = "Café – naïve “quotes”\nand a second line"


@pytest.mark.parametrize(
    ("raw", "text", "encoding"),
    [
        (SAID.encode(), SAID, "UTF-8"),
        (b"\xef\xbb\xbf" + SAID.encode(), SAID, "UTF-8 with a byte order mark"),
        (SAID.encode("utf-16"), SAID, "UTF-16"),
        (b"\xfe\xff" + SAID.encode("utf-16-be"), SAID, "UTF-16"),
        (SAID.encode("utf-32"), SAID, "UTF-32"),
        (SAID.encode("utf-16-le"), SAID, "UTF-16 without a mark"),
        (SAID.encode("utf-16-be"), SAID, "UTF-16 without a mark"),
        (SAID.encode("cp1252"), SAID, "Windows-1252"),
        (b"caf\xe9 and \x81", "café and \x81", "Latin-1"),
        (b"one\r\ntwo\rthree", "one\ntwo\nthree", "UTF-8"),
        ("one\u2028two\x85three".encode(), "one\u2028two\x85three", "UTF-8"),
        (b"", "", "UTF-8"),
    ],
    ids=["utf-8", "mark", "utf-16", "utf-16 big", "utf-32", "bare utf-16", "bare utf-16 big", "cp1252", "latin-1",
         "line ends", "separators stay", "empty"],
)  # fmt: skip
def test_an_encoding_is_found_and_told(raw: bytes, text: str, encoding: str) -> None:
    found = decode(raw, "a.txt")
    assert (found.text, found.encoding) == (text, encoding)
    assert found.notes == (() if encoding.startswith("UTF-8") else (f"a.txt is {encoding}, not UTF-8",))


def test_a_byte_that_was_damaged_is_not_taken_for_another_encoding() -> None:
    raw = "漢字 und Café, größer und ähnlich".encode()
    found = decode(raw[:1] + raw[2:], "a.txt")
    assert found.encoding == "UTF-8" and "größer" in found.text
    assert found.notes == ("1 characters of a.txt are damaged and were replaced by U+FFFD",)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\x1f\x8b\x08\x00", "is a gzip archive"),
        (b"PK\x03\x04rest", "is a ZIP archive"),
        (b"GGUF\x03\x00", "is a GGUF model"),
        (b"%PDF-1.7", "is a PDF"),
        (bytes(range(1, 32)) * 9 + b"\xff\xfe", "holds bytes that are no text"),
    ],
)
def test_what_is_no_text_is_named(raw: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        decode(raw, "a.txt")


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1))
def test_utf8_comes_back_as_it_was(text: str) -> None:
    assert decode(text.encode(), "a.txt").text == text.removeprefix("\ufeff")


def test_halves_of_characters_and_nul_are_counted() -> None:
    assert mended("a\0b \ud83d c") == ("ab \ufffd c", 2)
    assert mended("whole 🙂") == ("whole 🙂", 0)
