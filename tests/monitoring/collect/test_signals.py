"""Signals as they are stored."""

from __future__ import annotations

from monitoring.collect.signals import Signal


def test_a_signal_that_was_written_with_an_older_name_is_read() -> None:
    new = Signal(name="n", family="input", effect=0.5, limit=0.3, p_value=0.01, drifted=True, rows=9)
    older = new.model_dump(mode="json")
    older["doubt"] = older.pop("p_value")
    assert Signal.model_validate(older) == new
