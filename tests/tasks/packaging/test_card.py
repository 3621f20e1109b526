"""The card's cells where something was not measured."""

from __future__ import annotations

from tasks.packaging import card
from tasks.records.scores import Metric


def test_a_card_says_what_was_not_measured() -> None:
    gap = Metric(state="not-measured", reason="no Metal | on Linux")
    assert card._value(gap, "{:.1f}") == "not measured on this device: no Metal / on Linux"
    assert card._value(Metric(state="missing", reason="crash"), "{:.1f}") == "missing: crash"
    assert card._spread(Metric(value=1.0, se=0.25), None, "{:.2f}") == "± 0.25"
