"""The experiment, and that MLflow's page opens at its runs."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from tasks.registry.experiments import KIND, KIND_TAG, WORKFLOW, experiment_id, page
from tests.tracked import client, project


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)


def test_an_experiment_is_made_once_and_says_its_kind() -> None:
    own = client()
    number = experiment_id(own, "mine")
    assert experiment_id(own, "mine") == number
    assert own.get_experiment(number).tags[KIND_TAG] == KIND


def test_an_older_experiment_gets_the_kind_and_a_chosen_kind_stays() -> None:
    own = client()
    plain, chosen = own.create_experiment("plain"), own.create_experiment("chosen", tags={KIND_TAG: "finetuning"})
    assert (experiment_id(own, "plain"), experiment_id(own, "chosen")) == (plain, chosen)
    assert own.get_experiment(plain).tags[KIND_TAG] == KIND
    assert own.get_experiment(chosen).tags[KIND_TAG] == "finetuning"


def test_the_installed_pages_know_the_kind_and_the_address() -> None:
    pages = Path(mlflow.__file__).parent / "server/js/build/static/js"
    text = "".join(file.read_text(encoding="utf-8") for file in pages.glob("main.*.js"))
    assert f'"{KIND_TAG}"' in text and f'"{KIND}"' in text
    assert 'get("workflowType")' in text and f'"{WORKFLOW}"' in text
    assert page("7") == "/#/experiments/7/runs?workflowType=machine_learning"
    assert page("") == "/#/experiments?workflowType=machine_learning"
