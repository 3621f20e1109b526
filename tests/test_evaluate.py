"""The stage evaluate on a tiny model: more is scored only where a gate needs it, and what was scored is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import evaluate as stage
from tasks import paths
from tasks.convert import convert
from tasks.data import data
from tasks.measure.answers import Answers
from tasks.records import Evaluation, PlanEntry
from tasks.reference import reference
from tests import factories as make

VARIANT = "torch-bf16"
OFF = dict.fromkeys(("min_retention", "max_perplexity_ratio", "max_mean_kl", "min_task_retention"))
DATA = {"evaluation_rows": 4, "more": 1.0, "calibration_rows": 4, "choices": 12, "answers": 2, "max_tokens": 64}


def params(**gate: Any):
    return make.params(data=DATA, convert={"probe_tokens": 48}, gate=OFF | gate)


def entry() -> PlanEntry:
    return make.plan_entry(VARIANT, recipe=make.recipe(VARIANT, role="candidate"))


@pytest.fixture(scope="module")
def project(tmp_path_factory, tiny_model) -> Iterator[Path]:
    """A folder with a tiny model, data, reference and one candidate."""
    root = tmp_path_factory.mktemp("project")
    patch = pytest.MonkeyPatch()
    patch.chdir(root)
    patch.setenv("PYTHONPATH", str(Path(make.__file__).parent.parent))
    shutil.copytree(tiny_model, root / paths.MODEL)
    given = params()
    data(given.data, given.convert.probe_tokens, paths.MODEL, paths.DATA)
    reference(given, paths.REFERENCE)
    entry().write(paths.plan(VARIANT))
    made = convert(entry(), given, paths.artifact(VARIANT))
    assert made.status == "ok", made.reason
    yield root
    patch.undo()


@pytest.fixture
def children(project: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The child processes that a test starts; nothing is known beforehand."""
    shutil.rmtree(paths.EVALUATE, ignore_errors=True)
    started: list[str] = []
    real = stage.run_child

    def noting(child: Any) -> dict[str, Any]:
        started.append(child.label)
        return real(child)

    monkeypatch.setattr(stage, "run_child", noting)
    return started


def evaluated(**gate: Any) -> Evaluation:
    made = make.artifact(VARIANT)
    return stage.evaluate(entry(), made, params(**gate), paths.EVALUATE / VARIANT)


def test_decided_by_the_first_rows_and_choices(children: list[str]) -> None:
    found = evaluated(min_retention=0.01)
    assert (found.status, found.rows, found.choices, found.looks, found.final) == ("ok", 4, 12, 1, False)
    assert found.level > 0.95  # wider, as it may be looked at again
    assert found.reason == "decided by 4 rows and 12 choices"
    assert found.task_retention_low is not None and found.mcnemar_p is not None
    written = Answers.read(paths.answers(VARIANT))
    assert len(written.answers) == found.answers == 2
    assert found.answer_similarity is not None and 0 <= found.answer_similarity <= 1


def test_an_undecided_gate_gets_the_rest(children: list[str]) -> None:
    first = evaluated()
    assert first.looks == 1 and first.retention is not None
    more = evaluated(max_perplexity_ratio=first.perplexity_ratio)  # on the limit: nothing can decide that
    assert (more.rows, more.choices, more.looks, more.final) == (8, 24, 2, True)
    assert more.reason == "scored on all rows, which leave perplexity_ratio undecided"
    assert len(children) == 2
    again = evaluated(max_perplexity_ratio=more.perplexity_ratio)
    assert again.model_dump_json() == more.model_dump_json() and len(children) == 2  # there is nothing more to score


def test_another_limit_that_is_decided_costs_nothing(children: list[str]) -> None:
    first = evaluated(min_retention=0.01)
    again = evaluated(min_retention=0.02, max_mean_kl=90.0)
    assert again.model_dump_json() == first.model_dump_json()
    assert len(children) == 1


def test_other_data_or_settings_are_scored_anew(children: list[str]) -> None:
    evaluated()
    changed = params().model_copy(update={"evaluate": params().evaluate.model_copy(update={"answer_tokens": 5})})
    stage.evaluate(entry(), make.artifact(VARIANT), changed, paths.EVALUATE / VARIANT)
    assert len(children) == 2
    assert len(Answers.read(paths.answers(VARIANT)).answers[0].ids) == 5
