"""Text files as people have them: bytes of any encoding to text, and what was found and mended on the way."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from tasks.errors import DataError

MARKS: tuple[tuple[bytes, str, str], ...] = (  # byte order marks; UTF-32's begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF8, "utf-8", "UTF-8 with a byte order mark"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
OTHERS: tuple[tuple[bytes, str], ...] = (  # first bytes of what is often given for text
    (b"\x1f\x8b", "a gzip archive"),
    (b"PK\x03\x04", "a ZIP archive, as a spreadsheet is"),
    (b"%PDF-", "a PDF"),
    (b"\x89PNG", "a picture"),
    (b"PAR1", "a Parquet file"),
    (b"GGUF", "a GGUF model"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
)
CONTROLS = re.compile(r"[\x01-\x08\x0e-\x1a\x1b\x7f]")  # in no text; NUL and separators are told or kept
MOST_CONTROLS = 0.01  # of a text's characters, beyond which it is none
DAMAGED = 0.2  # of the bytes beyond ASCII: up to so many that are no UTF-8 are damage, more are another encoding


@dataclass(frozen=True)
class Decoded:
    """A file's text, its lines ended by line feeds alone, and what was seen."""

    text: str
    encoding: str  # in words
    notes: tuple[str, ...] = ()  # what is not as it should be, in words


def decode(raw: bytes, name: str) -> Decoded:
    """Bytes of a text file as text; raises DataError, naming `name`, for what is none.

    An encoding is told by its mark, else by being valid UTF-8, else by the zeros that UTF-16 has in every other byte,
    else it is Windows-1252, or Latin-1 where that has no such character.

    >>> decode("naïve\\r\\n".encode("cp1252"), "a.txt").text
    'naïve\\n'
    """
    for first, what in OTHERS:
        if raw.startswith(first):
            raise DataError(f"{name} is {what}, no text; unpack or export it as UTF-8 text, JSON lines, CSV or Parquet")
    text, encoding, damaged = _decoded(raw)
    if len(CONTROLS.findall(text)) > MOST_CONTROLS * len(text):
        raise DataError(f"{name} holds bytes that are no text; give UTF-8 text, JSON lines, CSV or Parquet")
    notes = [f"{name} is {encoding}, not UTF-8"] if not encoding.startswith("UTF-8") else []
    if damaged:
        notes.append(f"{damaged} characters of {name} are damaged and were replaced by U+FFFD")
    return Decoded(text.replace("\r\n", "\n").replace("\r", "\n"), encoding, tuple(notes))


def _decoded(raw: bytes) -> tuple[str, str, int]:
    """Text, its encoding in words, and how many characters were damaged."""
    for mark, codec, words in MARKS:
        if raw.startswith(mark):
            text = raw[len(mark) :].decode(codec, errors="replace")
            return text, words, max(0, text.count("\ufffd") - _own(raw, codec))
    try:
        return raw.decode("utf-8"), "UTF-8", 0
    except UnicodeDecodeError:
        pass
    sixteen = _sixteen(raw)
    if sixteen:
        text = raw.decode(sixteen, errors="replace")
        return text, "UTF-16 without a mark", text.count("\ufffd")
    text = raw.decode("utf-8", errors="replace")
    damaged = text.count("\ufffd") - raw.count("\ufffd".encode())
    beyond = sum(character > "\x7f" for character in text)
    if damaged <= DAMAGED * beyond:
        return text, "UTF-8", damaged
    try:
        return raw.decode("cp1252"), "Windows-1252", 0
    except UnicodeDecodeError:
        return raw.decode("latin-1"), "Latin-1", 0


def _own(raw: bytes, codec: str) -> int:
    """How often a text says U+FFFD itself."""
    return raw.count("\ufffd".encode(codec))


def _sixteen(raw: bytes) -> str | None:
    """UTF-16's codec where the zeros of plain letters stand in every other byte."""
    head = raw[:4096]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) < len(head) / 8 or min(even, odd) > max(even, odd) / 8:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def mended(text: str) -> tuple[str, int]:
    """The text without what cannot be written (halves of surrogate pairs, NUL), and how many of it there were.

    >>> mended("half \\ud83d")
    ("half \\ufffd", 1)
    """
    found = sum("\ud800" <= character <= "\udfff" or character == "\0" for character in text)
    if not found:
        return text, 0
    return re.sub(r"[\ud800-\udfff]", "\ufffd", text.replace("\0", "")), found
