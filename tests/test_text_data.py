"""Data for language models: splits never overlap, bad rows are named, prompts differ."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config import Data
from tasks.errors import DataError
from tasks.models import text_data


def encode(text):
    return [ord(c) for c in text]


def params(**changes):
    return Data(**{"evaluation_rows": 4, "calibration_rows": 3} | changes)


ROWS = [f"row number {i} with some words in it" for i in range(40)]


@given(st.integers(1, 15), st.integers(1, 15), st.integers(0, 2**20))
def test_evaluation_and_calibration_never_share_a_row(evaluation, calibration, seed):
    parts = text_data.split(ROWS, None, params(evaluation_rows=evaluation, calibration_rows=calibration, seed=seed))
    assert evaluation <= len(parts.evaluation) == min(evaluation + round(evaluation / 2), len(ROWS) - calibration)
    assert len(parts.calibration) == calibration
    assert set(parts.evaluation) & (set(parts.calibration) | set(parts.probe) | set(parts.spare)) == set()


def test_fewer_evaluation_rows_change_nothing_a_conversion_depends_on():
    many, few = (text_data.split(ROWS, None, params(evaluation_rows=n)) for n in (20, 5))
    assert few.calibration == many.calibration
    assert few.probe == many.probe
    assert few.evaluation == many.evaluation[: len(few.evaluation)]


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    assert text_data.split(ROWS, None, params()) == text_data.split(ROWS, None, params())
    assert text_data.split(ROWS, None, params()) != text_data.split(ROWS, None, params(seed=5))


def test_too_few_rows_say_how_many_are_needed():
    with pytest.raises(DataError, match=r"2 rows, needs 7 \(data.evaluation_rows \+ data.calibration_rows\)"):
        text_data.split(["a", "b"], None, params())


def test_own_calibration_text_leaves_all_rows_to_evaluation():
    parts = text_data.split(ROWS[:4], ["x" * 20, "y" * 20, "z" * 20], params())
    assert sorted(parts.evaluation) == sorted(ROWS[:4])
    assert parts.calibration == ("x" * 20, "y" * 20, "z" * 20)


def test_gsm8k_has_its_rows_without_machine_annotations():
    rows = text_data.read_rows("gsm8k")
    assert len(rows) == 1319
    assert all(row.startswith("Question: ") and "\nAnswer: " in row for row in rows)
    assert not any("<<" in row for row in rows)


def test_json_lines_of_both_shapes(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"text": "plain"}) + "\n" + json.dumps({"question": "q", "answer": "a"}) + "\n")
    assert text_data.read_rows(str(file)) == ["plain", "Question: q\nAnswer: a"]


def test_paragraphs_of_a_text_file(tmp_path):
    file = tmp_path / "rows.txt"
    file.write_text("first\nline\n\n\nsecond\n\n")
    assert text_data.read_rows(str(file)) == ["first\nline", "second"]


@pytest.mark.parametrize(
    ("line", "words"),
    [("{broken", "not JSON"), ('{"other": 1}', 'needs "text"'), ("[1]", 'needs "text"'), ('{"text": 5}', "as strings")],
)
def test_a_bad_row_is_named(tmp_path, line, words):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(DataError, match=words) as caught:
        text_data.read_rows(str(file))
    assert "rows.jsonl:2" in str(caught.value)


@pytest.mark.parametrize(("name", "words"), [("no.jsonl", "is not there; allowed"), ("rows.csv", "allowed endings")])
def test_an_unknown_source_says_what_is_allowed(tmp_path, name, words):
    (tmp_path / "rows.csv").write_text("a,b")
    with pytest.raises(DataError, match=words):
        text_data.read_rows(str(tmp_path / name))


def test_text_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "\xff"}')
    with pytest.raises(DataError, match="not UTF-8"):
        text_data.read_rows(str(tmp_path / "rows.jsonl"))


@given(st.binary(max_size=80))
def test_reading_rows_never_fails_without_words(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    file.write_bytes(data)
    try:
        rows = text_data.read_rows(str(file))
    except DataError:
        return
    assert all(isinstance(row, str) for row in rows)


def test_prompts_have_their_lengths_and_differ_from_the_first_token_on():
    made = text_data.prompts(ROWS, encode, params(prompts=6, prompt_tokens_short=10, prompt_tokens_long=50))
    assert {len(p) for p in made.short} == {10}
    assert {len(p) for p in made.long} == {50}
    assert len(set(made.short)) == len(set(made.long)) == 6


def test_too_little_text_for_a_prompt_is_said():
    with pytest.raises(DataError, match="too few for a prompt of 256"):
        text_data.prompts(["short"], encode, params())


def test_duplicates_between_splits_stop_the_data_stage(tmp_path, tokenizer_dir):
    from tasks.data import data

    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": "the very same row of eleven words or so"}) for _ in range(40)))
    with pytest.raises(DataError, match="no text in both splits"):
        data(params(source=str(rows)), 32, tokenizer_dir, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_the_data_stage_writes_what_the_other_stages_read(tmp_path, tokenizer_dir):
    from tasks.data import data

    card = data(Data(evaluation_rows=5, calibration_rows=4), 64, tokenizer_dir, tmp_path / "data")
    made = text_data.EvaluationSet.read(tmp_path / "data" / "evaluation.json")
    rows = made.rows
    assert (made.first, card.evaluation_rows, len(rows)) == (5, 7, 7)  # two of them only where gates need them
    assert card.evaluation_tokens == sum(len(row.ids) for row in rows)
    assert len(text_data.Probe.read(tmp_path / "data" / "probe.json").ids) == 64
    assert all(len(p) == 256 for p in text_data.Prompts.read(tmp_path / "data" / "prompts.json").long)
