"""The history of promotions, of all models and of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.records.lines import append, now
from tasks.registry import ledger
from tasks.registry.ledger import Entry


def entry(**changes: Any) -> Entry:
    fields = {"when": now(), "who": "ann", "action": "promote", "model": "tiny", "from_version": None}
    return Entry.model_validate(fields | {"to_version": "1", "why": "", "verdict_digest": ""} | changes)


def test_an_absent_ledger_is_empty(tmp_path: Path) -> None:
    assert ledger.read(tmp_path / "none.jsonl") == ledger.History(entries=())
    assert ledger.last(tmp_path / "none.jsonl", "tiny") is None


def test_the_history_of_one_model_and_its_newest_line(tmp_path: Path) -> None:
    book = tmp_path / "ledger.jsonl"
    for number, model in enumerate(("a", "b", "a"), 1):
        append(book, entry(model=model, to_version=str(number)))
    assert len(ledger.read(book, "a").entries) == 2
    newest = ledger.last(book, "a")
    assert newest is not None and newest.to_version == "3"


def test_a_line_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    book = tmp_path / "ledger.jsonl"
    append(book, entry())
    append(book, entry())
    book.write_bytes(book.read_bytes()[:-20])
    assert (len(ledger.read(book).entries), ledger.read(book).unreadable) == (1, 1)
