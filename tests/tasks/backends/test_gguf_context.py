"""Rows longer than the context that a llama.cpp session opens with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.backends.base import Work
from tasks.backends.gguf.context import CONTEXT
from tasks.backends.table import backend, tokens
from tests.factories import recipe

LONG = [(7 * number) % 49000 + 5 for number in range(CONTEXT + 300)]


@pytest.fixture(scope="module")
def artifact(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("gguf") / "model"
    out.mkdir()
    wanted = recipe(backend="gguf", precision="fp16", method="default", group_size=0)
    backend("gguf").convert(Work(model=tiny_model, calibration=(), threads=2), wanted, out)
    return out


def test_a_long_row_is_scored_as_its_beginning_is(artifact: Path) -> None:
    scorer = tokens("gguf").scorer(artifact, 2)
    short, long = scorer.score(LONG[:200]), scorer.score(LONG)
    assert long.shape == (len(LONG), 49152)
    np.testing.assert_allclose(long[:200], short, atol=0.05)
    np.testing.assert_allclose(scorer.score(LONG[:200]), short, atol=0.05)
    ((after,),) = scorer.score_after([LONG[:-3]], [[LONG[-3:]]])
    np.testing.assert_allclose(after, long[-4:-1], atol=0.05)
    scorer.close()


def test_an_answer_to_a_long_prompt_is_written(artifact: Path) -> None:
    scorer, speaker = tokens("gguf").scorer(artifact, 2), tokens("gguf").speaker(artifact, 2)
    assert speaker.generate(LONG, 3)[0] == int(scorer.score(LONG)[-1].argmax())
    speaker.prefill(LONG[:5])
    scorer.close()
    speaker.close()
