"""The staging checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.promotion import staging
from tests.mapped import classifier, encoder
from tests.serving import NAME, server


def test_staging_names_what_is_wrong() -> None:
    found = staging.check("http://127.0.0.1:9", "nobody")
    assert set(found) == {"OpenAI's client", "the Open Inference Protocol's client", "load", "bad input"}
    assert all(found.values())


@pytest.mark.parametrize(("made", "form"), [(encoder, "texts"), (classifier, "pictures"), (classifier, "tensors")])
def test_models_of_arrays_are_checked_by_what_they_serve(
    tmp_path: Path, made: Any, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_API_KEY", "secret")
    with server(tmp_path / "server", made(tmp_path / "package"), key="secret") as one:
        found = staging.check(one.base, NAME, form)
        assert len(found) == (2 if form == "tensors" else 4)
        assert not any(found.values()), found
        other = "pictures" if form == "texts" else "texts"
        assert any(staging.check(one.base, NAME, other).values())  # type: ignore[arg-type]
