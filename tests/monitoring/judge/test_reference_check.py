"""Answers read by the reference: its own are all alike, those of noise are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring.collect import rows
from monitoring.judge import reference_check
from monitoring.judge.reference_check import LoggedAnswer
from tasks.backends.table import tokens
from tasks.errors import ChildError
from tasks.kinds.causal_lm.chat import Text
from tests import logs

T0 = 1_790_000_000.0


def test_the_references_own_answers_are_its_likeliest_tokens_and_noise_is_not(tiny_model: Path, tmp_path: Path) -> None:
    text = Text(tiny_model, True)
    session = tokens("torch").speaker(tiny_model, 1)
    prompts = ["The sum of two and two is", "A train leaves at nine and"]
    own = [
        LoggedAnswer(prompt=one, answer=text.decode(session.generate(text.encode(one), 12)), chat=False)
        for one in prompts
    ]
    session.close()
    noise = [one.model_copy(update={"answer": "seven purple umbrellas argue about cheese"}) for one in own]
    found = reference_check.read(tiny_model, tiny_model, [*own, *noise], tmp_path / "shadow.log")
    assert min(one.agreement for one in found[:2]) > 0.5  # text that is encoded anew may split otherwise
    assert max(one.agreement for one in found[2:]) < 0.3
    assert found[0].perplexity < found[2].perplexity


@pytest.mark.model
def test_a_reference_that_is_not_there_is_an_error_of_the_child(tmp_path: Path, tokenizer_dir: Path) -> None:
    with pytest.raises(ChildError):
        reference_check.read(
            tmp_path / "nowhere", tokenizer_dir, [LoggedAnswer(prompt="a", answer="b", chat=False)], tmp_path / "log"
        )


def test_texts_are_drawn_from_whole_answers_of_callers_alone(tmp_path: Path) -> None:
    made = logs.traffic(100, T0, 10.0)
    for number, row in enumerate(made):
        row |= {"prompt": f"prompt {number}", "answer": "an answer"}
    made[0]["request_id"], made[1]["outcome"], made[2]["version"] = "mirror-1", "worker", "2"
    del made[3]["answer"]
    logs.write(tmp_path, made)
    found = rows.texts([tmp_path], T0, T0 + 11, "3", 1000)
    assert {prompt for _, prompt, _ in found} == {f"prompt {number}" for number in range(4, 100)}
    assert len(rows.texts([tmp_path], T0, T0 + 11, "3", 10)) == 10
    assert rows.texts([tmp_path], T0 + 20, T0 + 30, "3", 10) == []
