"""The stage evaluate on a tiny model: more is scored only where a gate needs it, and what was scored is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import evaluate as stage
from tasks.convert import convert
from tasks.data import data
from tasks.kinds import evaluating
from tasks.kinds.causal_lm import files
from tasks.kinds.causal_lm.answers import Answers
from tasks.kinds.table import catalogue
from tasks.records.plan import PlanEntry
from tasks.records.quality import Evaluation
from tasks.reference import reference
from tasks.run.child import Child
from tasks.run.workspace import Workspace
from tests import factories as make

VARIANT = "torch-bf16"
OFF = dict.fromkeys(("retention", "perplexity_ratio", "mean_kl", "task_retention"))
DATA = {
    "evaluation_rows": 4, "first_share": 1.0, "extra_share": 1.0, "calibration_rows": 4, "choices": 12, "answers": 2,
    "max_tokens": 64,
}  # fmt: skip


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
    shutil.copytree(tiny_model, root / Workspace().model)
    given = params()
    make.fetched(Workspace())
    data(given, Workspace().model, Workspace().data)
    reference(Workspace(), given)
    entry().write(Workspace().plan(VARIANT))
    made = convert(Workspace(), entry(), given)
    assert made.status == "ok", made.reason
    yield root
    patch.undo()


@pytest.fixture
def children(project: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The child processes that a test starts; nothing is known beforehand."""
    shutil.rmtree(Workspace().evaluations, ignore_errors=True)
    started: list[str] = []
    shutil.rmtree(Workspace().memo, ignore_errors=True)
    real = evaluating.run_child

    def noting(child: Child, answer: type[Any]) -> Any:
        started.append(child.label)
        return real(child, answer)

    monkeypatch.setattr(evaluating, "run_child", noting)
    return started


def evaluated(**gate: Any) -> Evaluation:
    given = params(**gate)
    return evaluating.evaluate(Workspace(), entry(), given, stage.asked(catalogue(), entry(), given))


def test_decided_by_the_first_rows_and_choices(children: list[str]) -> None:
    found = evaluated(retention={"min": 0.01})
    assert (found.status, found.looks, found.final) == ("ok", 1, False)
    assert (found.counts["rows"], found.counts["choices"]) == (4, 12)
    assert found.level > 0.95  # wider, as it may be looked at again
    assert found.reason == "decided by 4 rows and 12 choices"
    assert found.figures["task_retention"].low is not None and found.figures["mcnemar_p"].value is not None
    written = Answers.read(Workspace().evaluation(VARIANT) / files.ANSWERS)
    assert len(written.answers) == found.counts["answers"] == 2
    assert 0 <= found.figures["answer_similarity"].value <= 1
    told = stage.words(catalogue(), found)
    assert "perplexity ratio 1.0" in told and "nan" not in told, "a ratio to no right word at all is none"


def test_an_undecided_gate_gets_the_rest(children: list[str]) -> None:
    first = evaluated()
    assert first.looks == 1 and first.figures["retention"].value is not None
    more = evaluated(
        perplexity_ratio={"max": first.figures["perplexity_ratio"].value}
    )  # on the limit: nothing can decide that
    assert (more.counts["rows"], more.counts["choices"], more.looks, more.final) == (8, 24, 2, True)
    assert more.reason == "scored on all rows, which leave perplexity_ratio undecided"
    assert len(children) == 2
    again = evaluated(perplexity_ratio={"max": more.figures["perplexity_ratio"].value})
    assert again.model_dump_json() == more.model_dump_json() and len(children) == 2  # there is nothing more to score


def test_another_limit_that_is_decided_costs_nothing(children: list[str]) -> None:
    first = evaluated(retention={"min": 0.01})
    again = evaluated(retention={"min": 0.02}, mean_kl={"max": 90.0})
    assert again.model_dump_json() == first.model_dump_json()
    assert len(children) == 1


def test_other_data_or_settings_are_scored_anew(children: list[str]) -> None:
    evaluated()
    changed = params().model_copy(update={"evaluate": params().evaluate.model_copy(update={"answer_tokens": 5})})
    evaluating.evaluate(Workspace(), entry(), changed, ())
    assert len(children) == 2
    assert len(Answers.read(Workspace().evaluation(VARIANT) / files.ANSWERS).answers[0].ids) == 5
