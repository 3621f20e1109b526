"""Clients as they are, against a running server; `make clients` installs them, in an environment of their own."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.backends.table import tokens
from tasks.kinds.causal_lm.chat import Text
from tests import ROOT
from tests.serving import NAME, Running, package, server

PYTHON = ROOT / ".venv-clients" / "bin" / "python"
ITEMS, CHOICES = 50, 4
TASK = """
task: choices
dataset_path: json
dataset_kwargs:
  data_files:
    test: {rows}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
metric_list:
  - metric: acc
"""

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="the clients are not installed; `make clients` does it")


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package(tmp_path_factory.mktemp("made") / "package", tiny_model)


@pytest.fixture(scope="module")
def running(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with server(tmp_path_factory.mktemp("server"), made, slots=4) as one:
        yield one


def said(script: str, *words: str) -> str:
    """What a script in the clients' environment prints."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    environment["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch prices
    run = subprocess.run(
        [str(PYTHON), str(ROOT / "tests" / "clients" / script), *words],
        capture_output=True, text=True, timeout=300, env=environment, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


@pytest.mark.parametrize("client", ["langchain", "litellm"])
def test_answers_streams_forms_and_tools(running: Running, client: str) -> None:
    found: dict[str, Any] = json.loads(said(f"by_{client}.py", running.base, NAME).splitlines()[-1])
    assert found["answer"] and found["answer"] == found["streamed"] and found["tokens"] > 0
    assert all("name" in form for form in found["forms"].values()) and found["forms"]
    assert [name for name, _ in found["called"]] in (["get_weather"], ["who"])
    assert found["called"][0][1] in (["city"], ["name"])


def rows(text: Text) -> list[dict[str, Any]]:
    """Beginnings with four continuations each, of random words: what a model of random weights tells apart as well."""
    draw = random.Random(0)
    words = [word for word in (text.token(number) for number in range(1000, 3000)) if word.strip().isalpha()]

    def some(count: int) -> str:
        return "".join(f" {draw.choice(words).strip()}" for _ in range(count))

    def item(number: int) -> dict[str, Any]:
        choices = [some(draw.randrange(2, 5)) for _ in range(CHOICES)]
        return {"context": f"Once{some(12)}", "choices": choices, "answer": number % CHOICES}

    return [item(number) for number in range(ITEMS)]


def chosen_by_us(made: Path, items: list[dict[str, Any]], text: Text) -> list[int]:
    """The likeliest choice of each item, scored by the artifact alone, without a server."""
    scorer, chosen = tokens("gguf").scorer(made / "model", 2), []
    for item in items:
        context, sums = text.encode(item["context"]), []
        for choice in item["choices"]:
            ending = text.encode(item["context"] + choice)[len(context) :]
            ((logits,),) = scorer.score_after([context], [[ending]])
            rows = logits - logits.max(axis=1, keepdims=True)
            logprobs = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
            sums.append(float(logprobs[np.arange(len(ending)), ending].sum()))
        chosen.append(int(np.argmax(sums)))
    scorer.close()
    return chosen


def test_lm_eval_finds_what_we_find(running: Running, made: Path, tmp_path: Path) -> None:
    text = Text(made / "tokenizer", False)
    items = rows(text)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (tmp_path / "choices.yaml").write_text(TASK.format(rows=tmp_path / "rows.jsonl"))
    said("by_lm_eval.py", running.base, NAME, str(made / "tokenizer"), str(tmp_path))
    found = json.loads((tmp_path / "found.json").read_text())
    ours = chosen_by_us(made, items, text)
    assert found["chosen"] == ours
    assert found["accuracy"] == pytest.approx(
        np.mean([a == item["answer"] for a, item in zip(ours, items, strict=True)])
    )
    assert len(set(ours)) == CHOICES
