"""Data for language models: splits never overlap, bad rows are named, prompts differ."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import data as stage
from tasks.errors import DataError
from tasks.kinds.base import DataCard
from tasks.kinds.causal_lm import files, preparing
from tasks.kinds.causal_lm import rows as text_data
from tasks.kinds.reading import Texts
from tasks.params.pipeline import Data, Params
from tasks.sources.files import Source
from tests import factories


def encode(text):
    return [ord(c) for c in text]


def params(**changes):
    return Data(**{"evaluation_rows": 4, "calibration_rows": 3} | changes)


ROWS = [f"row number {i} with some words in it" for i in range(40)]


@given(st.integers(1, 15), st.integers(1, 15), st.integers(0, 2**20))
def test_evaluation_and_calibration_never_share_a_row(evaluation, calibration, seed):
    parts = text_data.split(
        Texts(tuple(ROWS)), None, params(evaluation_rows=evaluation, calibration_rows=calibration, seed=seed)
    )
    assert evaluation <= len(parts.evaluation) == min(evaluation + round(evaluation / 4), len(ROWS) - calibration)
    assert len(parts.calibration) == calibration
    assert set(parts.evaluation) & (set(parts.calibration) | set(parts.probe) | set(parts.spare)) == set()


def test_fewer_evaluation_rows_change_nothing_a_conversion_depends_on():
    many, few = (text_data.split(Texts(tuple(ROWS)), None, params(evaluation_rows=n)) for n in (20, 5))
    assert few.calibration == many.calibration
    assert few.probe == many.probe
    assert few.evaluation == many.evaluation[: len(few.evaluation)]


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    assert text_data.split(Texts(tuple(ROWS)), None, params()) == text_data.split(Texts(tuple(ROWS)), None, params())
    assert text_data.split(Texts(tuple(ROWS)), None, params()) != text_data.split(
        Texts(tuple(ROWS)), None, params(seed=5)
    )


def test_too_few_rows_say_how_many_are_needed():
    with pytest.raises(
        DataError,
        match=r"2 usable rows, needs 7 \(data.evaluation_rows \+ data.calibration_rows\); rows left out: 9 double",
    ):
        text_data.split(Texts(("a", "b"), left_out={"double": 9}), None, params())


def test_own_calibration_text_leaves_all_rows_to_evaluation():
    parts = text_data.split(Texts(tuple(ROWS[:4])), Texts(("x" * 20, "y" * 20, "z" * 20)), params())
    assert sorted(parts.evaluation) == sorted(ROWS[:4])
    assert parts.calibration == ("x" * 20, "y" * 20, "z" * 20)


def test_prompts_have_their_lengths_and_differ_from_the_first_token_on():
    made = text_data.prompts(ROWS, encode, params(prompts=6, prompt_tokens_short=10, prompt_tokens_long=50))
    assert {len(p) for p in made.short} == {10}
    assert {len(p) for p in made.long} == {50}
    assert len(set(made.short)) == len(set(made.long)) == 6


def test_too_little_text_for_a_prompt_is_said():
    with pytest.raises(DataError, match="too few for a prompt of 256"):
        text_data.prompts(["short"], encode, params())


@pytest.fixture
def model(tmp_path: Path, tokenizer_dir: Path) -> Path:
    folder = shutil.copytree(tokenizer_dir, tmp_path / "model")
    Source(name="tiny", source="hub/tiny", origin="the hub", sha256="ab").write(folder / "source.json")
    return folder


def prepared(model: Path, out: Path, data: dict[str, object]) -> DataCard:
    blocks = {"variants": factories.VARIANTS, "data": data, "convert": {"probe_tokens": 64}}
    return stage.data(Params.model_validate(blocks), model, out)


def written(file: Path, texts: list[str]) -> Path:
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return file


LONG = [f"row number {i}: " + "some more words that make a row of it " * 12 for i in range(40)]


def test_copies_and_short_rows_are_left_out_and_the_card_tells_how_many(tmp_path: Path, model: Path) -> None:
    given = written(tmp_path / "rows.jsonl", [*LONG, LONG[3], "short", " "])
    card = prepared(model, tmp_path / "data", {"source": str(given), "evaluation_rows": 4, "calibration_rows": 3})
    assert card.notes == ("rows left out: 1 double, 1 empty, 1 of fewer than 8 tokens",)
    assert card.notes[0] in card.words


def test_no_row_of_the_calibration_text_is_evaluated(tmp_path: Path, model: Path) -> None:
    given, own = written(tmp_path / "rows.jsonl", LONG), written(tmp_path / "own.jsonl", LONG[:10])
    data = {"source": str(given), "calibration_source": str(own), "evaluation_rows": 4, "calibration_rows": 3}
    card = prepared(model, tmp_path / "data", data)
    assert card.notes == ("rows left out: 10 of the calibration text",)


def test_too_few_rows_stop_the_data_stage_and_cost_nothing(tmp_path: Path, model: Path) -> None:
    given = written(tmp_path / "rows.jsonl", ["the very same row of eleven words or so"] * 40)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "card.json").write_text("as it was")
    with pytest.raises(DataError, match="1 usable rows, needs 7 .*; rows left out: 39 double; add rows"):
        prepared(model, tmp_path / "data", {"source": str(given), "evaluation_rows": 4, "calibration_rows": 3})
    assert (tmp_path / "data" / "card.json").read_text() == "as it was"


def test_lengths_are_cut_to_the_models_context_and_told(tmp_path: Path, model: Path) -> None:
    (model / "config.json").write_text('{"max_position_embeddings": 96}')
    card = prepared(model, tmp_path / "data", {"evaluation_rows": 5, "calibration_rows": 4})
    cut = "data.max_tokens, data.prompt_tokens_long, data.prompt_tokens_longest cut to 48"
    assert card.notes[0] == f"the model reads 96 tokens at once: {cut}"
    prompts = text_data.Prompts.read(tmp_path / "data" / files.PROMPTS)
    assert {len(p) for p in prompts.long} == {48} and len(prompts.longest[0]) == prompts.most == 48
    assert preparing.within(Data(), 0) == (Data(), ()) and preparing.within(Data(), 4096) == (Data(), ())


def test_of_very_many_rows_a_part_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "MOST_ROWS", 5)
    texts = preparing.usable(str(written(tmp_path / "rows.jsonl", ROWS)), encode, params())
    assert len(texts.rows) == 5 and set(texts.rows) <= set(ROWS) and texts.words == ("5 of 40 rows were drawn",)


def test_the_data_stage_writes_what_the_other_stages_read(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "data"
    card = prepared(model, out, {"evaluation_rows": 5, "calibration_rows": 4})
    made = text_data.EvaluationSet.read(out / files.EVALUATION)
    assert (made.looks, card.evaluation_rows, len(made.rows)) == ((2, 5, 6), 6, 6)
    assert card.evaluation_tokens == sum(len(row.ids) for row in made.rows)
    assert len(text_data.Probe.read(out / files.PROBE).ids) == 64
    assert all(len(p) == 256 for p in text_data.Prompts.read(out / files.PROMPTS).long)
