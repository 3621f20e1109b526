"""The staging checks."""

from __future__ import annotations

from tasks.promotion import staging


def test_staging_names_what_is_wrong() -> None:
    found = staging.check("http://127.0.0.1:9", "nobody")
    assert set(found) == {"OpenAI's client", "the Open Inference Protocol's client", "load", "bad input"}
    assert all(found.values())
