"""A target in one file outside of the product has a winner of its own, by its module's name in params.yaml alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tasks import code, gate, recommend
from tasks.assess import fits, write_plan
from tasks.params.load import parse
from tasks.params.pipeline import Params
from tasks.planning.plan import plan
from tasks.records.scores import Recommendation
from tasks.records.targets import Fits, Rankings, TargetVerdict, TargetVerdicts
from tasks.reporting import reading
from tasks.reporting.markdown import markdown
from tasks.reporting.page import page
from tasks.reporting.targets import lines
from tasks.reporting.terminal import print_scorecard
from tasks.run.workspace import Workspace
from tests import ROOT
from tests import factories as make
from tests import report_fixture as fixture

if TYPE_CHECKING:
    from tasks.targets.base import Kind
    from tests.tasks import toy_target

    _TOY: Kind = toy_target

TOY = "tests.tasks.toy_target"
TARGETS = {"here": {"device": "host"}, "box": {"device": "host", "kind": TOY}}


def params(**targets: Any) -> Params:
    variants = {
        name: {**one, "source": "model", "quick": True} for name, one in fixture.variants().items()
    }  # what the fixture's records are of
    weights = {"quality": 0.25, "decode": 0.25, "prefill": 0.25, "memory": 0.25}
    return parse({"variants": variants, "recommend": {"weights": weights}, "targets": targets})


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fixture's records in a folder of their own, as the stages before `recommend` leave them."""
    return records(tmp_path, monkeypatch)


def records(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    patch.chdir(folder)
    fixture.write(fixture.findings())
    make.fetched(Workspace())
    for name in fixture.GIVEN:
        make.listed(Workspace(), name)
    patch.setattr(recommend, "security_findings", lambda workspace, variant: [])  # there are no files
    return folder


def write(chosen: Params) -> None:
    values = chosen.model_dump(mode="json", exclude={"profiles"})
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def stages(chosen: Params) -> TargetVerdicts:
    """Assess, recommend and gate with these parameters."""
    space, hardware, model = Workspace(), fixture.hardware(), fixture.model()
    Path("params.yaml").write_text(
        yaml.safe_dump(chosen.model_dump(mode="json", exclude={"profiles"}), sort_keys=False)
    )
    found = fits(chosen, hardware, model)
    Fits(targets=found).write(space.fits)
    write_plan(plan(chosen, hardware, model, fixture.selection(), found), space.plans)
    assert recommend.main([]) == gate.main([]) == 0
    return TargetVerdicts.read(space.target_verdicts)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TargetVerdicts]:
    """A run for this machine and the toy target; its folder is the current one while it is used."""
    with pytest.MonkeyPatch.context() as patch:
        records(tmp_path_factory.mktemp("both"), patch)
        yield stages(params(**TARGETS))


def test_its_winner_is_another_than_the_hosts(ranked: TargetVerdicts) -> None:
    here, box = ranked.targets
    assert (here.target, here.device, here.report.outcome) == ("here", "host", "pass")
    assert here.report.winner is not None and not here.report.winner.startswith("gguf")
    assert box.report.outcome == "pass" and str(box.report.winner).startswith("gguf")
    [ranking] = Rankings.read(Workspace().rankings).targets
    rows = {row.variant: row for row in ranking.recommendation.rows}
    assert rows[here.report.winner].status == "skipped"
    assert rows[here.report.winner].reason == "target box: the firmware reads gguf, not openvino"
    assert {one.variant.split("-")[0] for one in ranking.recommendation.ranking} == {"gguf"}


def test_terminal_markdown_and_page_have_a_line_per_target(
    ranked: TargetVerdicts, capsys: pytest.CaptureFixture[str]
) -> None:
    found = reading.scores(Workspace())
    winner = str(found.targets[1].report.winner)
    assert [(line.target, line.verdict, line.winner) for line in lines(found)][1] == ("box", "pass", winner)
    print_scorecard(found, 160)
    [said] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  box")]
    assert said.split()[:4] == ["box", "host", "pass", winner] and "passes every gate" in said
    assert f"| box | host | pass | {winner} |" in markdown(found).replace("\\_", "_")
    shown = page(replace(fixture.findings(), scores=found))
    assert f'<td class="name">box</td><td>host</td><td class="good">pass</td><td class="name">{winner}</td>' in shown
    assert "A verdict and a winner for each target" not in page(fixture.findings())


def test_the_first_targets_results_are_those_it_has_alone(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages(params(**TARGETS))
    assert "box: gguf-" in capsys.readouterr().out
    both = [Workspace().recommendation.read_bytes(), Workspace().verdicts.read_bytes()]
    alone = params(here={"device": "host"})
    write(alone)
    Fits(targets=fits(alone, fixture.hardware(), fixture.model())).write(Workspace().fits)
    assert recommend.main([]) == gate.main([]) == 0
    assert both == [Workspace().recommendation.read_bytes(), Workspace().verdicts.read_bytes()]
    assert not Workspace().target_verdicts.exists(), "one target has the verdicts alone"
    assert Recommendation.read(Workspace().recommendation).closeness


HERE = {"device": "host"}
SPEED = dict.fromkeys(("decode_speedup", "prefill_speedup", "decode_long_speedup", "tail_ratio", "latency_drift"))
ELSEWHERE = SPEED | dict.fromkeys(("memory_growth", "stress_failures", "memory_share"))  # what only the device can tell


FURTHER: dict[str, dict[str, Any]] = {
    "same": HERE,
    "accurate": {**HERE, "weights": {"quality": 1.0, "decode": 0, "prefill": 0, "memory": 0}},
    "small": {**HERE, "gate": {"artifact_share": {"max": 0.2}, "memory_share": None, "perplexity_ratio": None,
                               "retention": {"min": 0.5}, "mean_kl": None}},
    "tiny": {**HERE, "gate": {"artifact_share": {"max": 0.001}}},
    "board": {"device": "raspberry-pi"},
    "asked": {"device": "raspberry-pi", "gate": ELSEWHERE},
}  # fmt: skip


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, TargetVerdict]]:
    """The verdicts of one run for this machine and all further targets."""
    with pytest.MonkeyPatch.context() as patch:
        records(tmp_path_factory.mktemp("targets"), patch)
        yield {one.target: one for one in stages(params(here=HERE, **FURTHER)).targets}


@pytest.mark.parametrize(("name", "outcome", "differs", "words"), [
    ("same", "pass", False, "passes every gate and ranks 1 of"),
    ("accurate", "pass", True, "passes"),
    ("small", "pass", True, "passes"),
    ("tiny", "fail", True, "no candidate passed"),
    ("board", "inconclusive", True, "some could not be decided"),
    ("asked", "pass", None, "passes every gate"),
])  # fmt: skip
def test_gates_weights_and_devices_of_targets(
    judged: dict[str, TargetVerdict], name: str, outcome: str, differs: bool | None, words: str
) -> None:
    here, other = judged["here"], judged[name]
    assert here.report.outcome == "pass"
    assert (other.report.outcome, words in other.report.reason) == (outcome, True), other.report.reason
    assert differs is None or (other.report.winner != here.report.winner) is differs
    reasons = {e.reason for v in other.report.verdicts for e in v.expectations}
    elsewhere = any("not measured on this device: this machine is not raspberry-pi" in reason for reason in reasons)
    assert elsewhere == (outcome == "inconclusive")


def test_a_change_to_it_redoes_the_plan() -> None:
    listed = code.listings(ROOT, (), [TOY])
    its = {place.name for place, text in listed.items() if "tests/tasks/toy_target.py" in text}
    assert its == {"assess.txt", "bundle.txt"}
