"""Tasks from a source's own texts and from the user's file: what is asked, and which row is refused and why."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import DataError
from tasks.kinds.causal_lm import tasks
from tasks.kinds.causal_lm.tasks import CHOICES, ChoiceItem, Encoder, choice_items, halves, task_set
from tasks.params.pipeline import Data

BEGIN = 7
ENCODER = Encoder((BEGIN,), lambda text: [100 + ord(c) for c in text])
TEXTS = [f"Question: how many are {i} and {i}?\nAnswer: They are {2 * i}." for i in range(30)]


def params(**changes) -> Data:
    return Data(
        **{"choices": 12, "extra_share": 0.5, "answers": 2, "choice_prompt_tokens": 20, "choice_tokens": 12} | changes
    )


def test_doctests() -> None:
    assert doctest.testmod(tasks).failed == 0


@given(st.text(max_size=200))
def test_halves_lose_nothing(text: str) -> None:
    prompt, rest = halves(text)
    assert prompt + rest == text


def test_the_right_answer_is_the_prompts_own_and_the_others_are_not() -> None:
    made = task_set(TEXTS, ENCODER, params())
    assert (made.looks, len(made.choices), len(made.open)) == ((5, 12, 18), 18, 2)
    for text, item in zip(TEXTS, made.choices, strict=False):
        prompt, answer = halves(text)
        assert item.prompt == (BEGIN, *ENCODER.encode(prompt)[-20:])
        assert item.choices[item.answer] == tuple(ENCODER.encode(answer)[:12])
        assert len(set(item.choices)) == CHOICES
    assert len({item.answer for item in made.choices}) == CHOICES  # the right one stands in every place


def test_the_seed_fixes_the_items() -> None:
    pairs = [halves(text) for text in TEXTS]
    assert choice_items(pairs, ENCODER, params()) == choice_items(pairs, ENCODER, params())
    assert choice_items(pairs, ENCODER, params()) != choice_items(pairs, ENCODER, params(seed=18))


def test_fewer_items_are_the_first_of_more() -> None:
    few, many = (task_set(TEXTS, ENCODER, params(choices=n, extra_share=0.0)).choices for n in (12, 12))
    assert few == many[: len(few)]


@pytest.mark.parametrize("texts", [[], TEXTS[:3], ["same words"] * 30, [""] * 30])
def test_too_few_texts_give_no_items(texts: list[str]) -> None:
    assert task_set(texts, ENCODER, params()).choices == ()


def test_none_are_made_when_none_are_asked_for() -> None:
    assert task_set(TEXTS, ENCODER, params(choices=0, answers=0)) == tasks.TaskSet(source="gsm8k")


def written(folder: Path, *rows: object) -> Data:
    file = folder / "tasks.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return params(tasks=str(file))


GOOD = {"prompt": "Two and two?", "choices": [" Three", " Four"], "answer": " Four"}


def test_the_users_tasks_are_taken_whole(tmp_path: Path) -> None:
    by_index = GOOD | {"answer": 0}
    found = task_set(TEXTS, ENCODER, written(tmp_path, GOOD, by_index, "", {"prompt": "Say it", "reference": "It"}))
    assert [item.answer for item in found.choices] == [1, 0]
    assert found.looks == (2,)
    assert found.choices[0].prompt[0] == BEGIN and found.choices[0].choices[0][0] != BEGIN
    assert [(one.text, one.expected) for one in found.open] == [("Say it", "It")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "not JSON"),
        ([1], 'needs "prompt"'),
        ({"prompt": " "}, 'needs "prompt"'),
        ({"prompt": "a"}, 'needs either "choices" or "reference"'),
        (GOOD | {"reference": "x"}, 'needs either "choices" or "reference"'),
        (GOOD | {"anser": 1}, "unknown key 'anser'"),
        (GOOD | {"choices": ["only"]}, "at least two strings"),
        (GOOD | {"choices": ["a", ""]}, "none of them empty"),
        (GOOD | {"answer": 2}, '\'answer" is 2|answer" is 2'),
        (GOOD | {"answer": True}, 'answer" is True'),
        (GOOD | {"answer": " Five"}, "one of the choices"),
        ({"prompt": "a", "reference": 3}, '"reference" must be a string'),
        ({"prompt": "a" * 300, "reference": "b"}, "300 tokens|301 tokens"),
    ],
)
def test_a_bad_row_is_named_with_the_reason(tmp_path: Path, row: object, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        task_set(TEXTS, ENCODER, written(tmp_path, GOOD, row))
    assert "tasks.jsonl:2" in str(caught.value)


def test_a_file_without_tasks_or_none_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no task"):
        task_set(TEXTS, ENCODER, written(tmp_path, ""))
    with pytest.raises(DataError, match="is not there"):
        task_set(TEXTS, ENCODER, params(tasks=str(tmp_path / "none.jsonl")))


def test_an_item_without_a_right_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="none of the 2 choices"):
        ChoiceItem(prompt=(1,), choices=((1,), (2,)), answer=2)
