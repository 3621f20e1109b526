"""Prompts in, texts out: what is taken, and where a text ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.errors import DataError
from tasks.kinds.causal_lm.chat import end_tokens
from tasks.kinds.causal_lm.predicting import prompts, until


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([1], "prompt 0 is 1"),
        (["a", ""], "prompt 1 is ''"),
        ([{"text": "a"}], "prompt 0 is None"),
    ],
)
def test_prompts_that_are_no_text_are_refused(given: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        prompts(given)


def test_prompts_come_in_several_forms() -> None:
    import pandas as pd

    assert prompts("a") == prompts(["a"]) == prompts({"prompt": "a"}) == prompts([{"prompt": "a"}]) == ["a"]
    assert prompts(pd.DataFrame({"prompt": ["a", "b"]})) == ["a", "b"]
    with pytest.raises(DataError, match="no column 'prompt'; found text"):
        prompts(pd.DataFrame({"text": ["a"]}))


@pytest.mark.parametrize(
    ("stated", "own", "ends"),
    [
        (None, 2, {2}),
        ('{"eos_token_id": 5}', 2, {2, 5}),
        ('{"eos_token_id": [5, 6]}', None, {5, 6}),
        ("{}", None, set()),
    ],
)
def test_what_ends_a_text(stated: str | None, own: int | None, ends: set[int]) -> None:
    if stated is not None:
        Path("generation_config.json").write_text(stated)
    assert end_tokens(Path(), own) == ends
    assert until([1, 3, 2, 4], {2}) == [1, 3]
    assert until([1, 3], ends) == [1, 3]
