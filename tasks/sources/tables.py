"""Rows of data from files as other tools write them: JSON, JSON lines, CSV, Parquet, or paragraphs of text."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import DataError
from tasks.sources.text import decode

JSON = (".jsonl", ".ndjson", ".json")
TEXT = (".txt", ".text", ".md")
CELLS = (".csv", ".tsv")
ENDINGS = (*JSON, *TEXT, *CELLS, ".parquet")
PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz")
MOST_MB = 2048.0
DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Table:
    """Rows of one file, each with its place in it, and what was seen while it was read."""

    rows: tuple[tuple[str, Any], ...]  # ("file.jsonl:3", {"text": ...}); of a text file the text itself
    notes: tuple[str, ...] = ()


def read(path: Path) -> Table:
    """Read `path` by its ending; raises DataError, naming file and line, for what cannot be read."""
    if not path.is_file():
        raise DataError(f"{path} is not there, or is no file; allowed: a file that ends in {', '.join(ENDINGS)}")
    ending = path.suffix.lower()
    if ending in PACKED:
        raise DataError(f"{path} is packed; unpack it and give what is inside ({', '.join(ENDINGS)})")
    if ending not in ENDINGS:
        raise DataError(
            f"{path}: the ending {path.suffix or 'is missing, it'} is not known; allowed: {', '.join(ENDINGS)}"
        )
    try:
        size_mb = path.stat().st_size / 2**20
        if size_mb > MOST_MB:
            raise DataError(f"{path} has {size_mb:,.0f} MB; at most {MOST_MB:,.0f} MB are read: give a part of it")
        if ending == ".parquet":
            return _parquet(path)
        found = decode(path.read_bytes(), path.name)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if ending in CELLS:
        return Table(_cells(found.text, path, ending), found.notes)
    if ending in JSON:
        return Table(_json(found.text, path, ending), found.notes)
    rows, more = _paragraphs(found.text, path)
    return Table(rows, (*found.notes, *more))


def _json(text: str, path: Path, ending: str) -> tuple[tuple[str, Any], ...]:
    """An array, an object that holds one, or a value a line, whichever the ending says first."""
    whole = ending == ".json" or text.lstrip()[:1] == "["
    if whole:
        try:
            listed = _listed(_parsed(text))
        except ValueError:
            listed = None  # several values, one a line
        if listed is not None:
            return tuple((f"{path}, row {number}", value) for number, value in enumerate(listed, 1))
    return tuple(
        (f"{path}:{number}", _line(line, f"{path}:{number}"))
        for number, line in enumerate(text.split("\n"), 1)  # a JSON string may hold any other separator
        if line.strip()
    )


def _line(line: str, where: str) -> Any:
    try:
        return _parsed(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}); each line must be an object") from error


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _listed(value: Any) -> list[Any] | None:
    """The rows of an array, or of an object with one array of objects in it, as exports have."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        arrays = [one for one in value.values() if isinstance(one, list) and one and isinstance(one[0], dict | str)]
        if len(arrays) == 1 and not any(name in value for name in ("messages", "conversations")):
            return arrays[0]
        return [value]
    raise ValueError("neither an array nor an object")


def _cells(text: str, path: Path, ending: str) -> tuple[tuple[str, Any], ...]:
    first = text.partition("\n")[0]
    delimiter = "\t" if ending == ".tsv" else max(DELIMITERS, key=first.count)
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        rows = []
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(header):
                raise DataError(
                    f"{where}: {len(cells)} cells, the header has {len(header)}; put cells that hold {delimiter!r} "
                    "or a quote between double quotes"
                )
            rows.append((where, dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.line_num}: not CSV ({error}); a quote inside a cell is written twice"
        ) from error
    if len(set(header)) < len(header):
        raise DataError(f"{path}: two columns have one name: {', '.join(header)}")
    return tuple(rows)


def _parquet(path: Path) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{path}: Parquet needs the package pyarrow, which is not installed") from error
    try:
        rows: Sequence[Any] = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is not a Parquet file, or is damaged: {str(error).partition(chr(10))[0]}") from error
    return Table(tuple((f"{path}, row {number}", row) for number, row in enumerate(rows, 1)))


def _paragraphs(text: str, path: Path) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Paragraphs between blank lines; where there is not one blank line, lines."""
    body = text.strip("\n")
    blank = re.compile(r"\n[^\S\n]*\n")
    notes: tuple[str, ...] = ()
    if blank.search(body) or "\n" not in body:
        parts = [part.strip() for part in re.split(r"\n\s*\n", body)]
    else:
        parts = [line.strip() for line in body.split("\n")]
        notes = (f"{path.name} has no blank lines: each line is a row",)
    return tuple((f"{path}, paragraph {n}", part) for n, part in enumerate(parts, 1) if part), notes
