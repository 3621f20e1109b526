"""The bundle stage: only what its target's gates passed, or what says that they did not; budgets; faults as records."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest

from tasks import bundle as stage
from tasks.bundle import Judged, bundle, main, recorded, untold, wanted_of
from tasks.errors import EXIT_FAIL, EXIT_OK, ConfigError, UnsupportedError
from tasks.kinds.table import catalogue
from tasks.packaging.manifest import CONTENTS
from tasks.params.load import load_params
from tasks.params.pipeline import Target as Wanted
from tasks.records.base import Support
from tasks.records.bundles import Bundle, Check, Compared, Part
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.records.scores import Recommendation
from tasks.records.verdict import GateReport
from tasks.run.workspace import Workspace
from tasks.targets import table
from tasks.targets.base import Shipped
from tests import ROOT
from tests.factories import profile
from tests.finished import WINNER, finished

SPACE = Workspace()


@dataclass(frozen=True)
class Box:
    """A target that keeps one file."""

    name: str = "box"
    device: str = "host"
    state: Literal["ok", "failed"] = "ok"
    refuses: str = ""

    def accepts(self, model: ModelProfile, recipe: Recipe) -> Support:
        return Support(ok=True, reason="a box takes anything")

    def build(self, shipped: Shipped, out: Path) -> tuple[Part, ...]:
        if self.refuses:
            raise UnsupportedError(self.refuses)
        (out / "what").write_text(f"{shipped.contents.variant} {shipped.contents.verdict} {shipped.anyway}")
        assert (shipped.package / CONTENTS).is_file()
        return (Part(component="weights", name="what", download_bytes=3_000_000, installed_bytes=4_000_000),)

    def validate(self, bundle: Path) -> tuple[Check, ...]:
        return (Check(name="lid", state=self.state, reason="it shuts" if self.state == "ok" else "it does not shut"),)

    def compare(self, shipped: Shipped, bundle: Path) -> Compared:
        return Compared(engine="box", state="not-measured", reason="a box does not answer")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    calibration = SimpleNamespace(calibration=lambda _: SimpleNamespace(texts=("a text",)))
    monkeypatch.setattr(stage, "preparing", lambda kind: calibration)


def go(monkeypatch: pytest.MonkeyPatch, box: Box, anyway: bool = False, budget: float | None = None) -> Bundle:
    found = Judged(
        "box",
        Wanted(kind="box", device="host", budget_mb=budget),
        box,
        GateReport.read(SPACE.verdicts),
        Recommendation.read(SPACE.recommendation),
    )
    profile().write(SPACE.profile)
    monkeypatch.setattr(stage, "judged", lambda *_: found)
    made = bundle(SPACE, load_params(ROOT), "box", anyway)
    assert Bundle.read(SPACE.bundle_record("box")) == made
    return made


def test_the_winner_is_bundled_with_its_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    finished()
    made = go(monkeypatch, Box())
    assert (made.status, made.variant, made.verdict, made.anyway) == ("ok", WINNER, "pass", "")
    assert (made.size_mb, made.download_mb, made.within) == (4.0, 3.0, None)
    assert len(made.package_sha256) == 64
    assert (SPACE.bundle("box") / "what").read_text() == f"{WINNER} pass "


@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
def test_what_no_gate_passed_is_refused_and_an_older_bundle_is_gone(
    monkeypatch: pytest.MonkeyPatch, outcome: Literal["fail", "inconclusive"]
) -> None:
    finished()
    go(monkeypatch, Box())
    finished(outcome=outcome)
    made = go(monkeypatch, Box())
    assert made.status == "refused"
    assert "--anyway" in made.reason
    assert not SPACE.bundle("box").exists()


def test_what_is_shipped_anyway_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    finished(outcome="fail")
    made = go(monkeypatch, Box(), anyway=True)
    assert (made.status, made.verdict) == ("ok", "fail")
    assert made.anyway.startswith("fail: ")
    assert made.command.endswith("--anyway")
    assert made.anyway in (SPACE.bundle("box") / "what").read_text()


def test_a_budget_that_is_exceeded_fails_with_the_size_and_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    finished()
    made = go(monkeypatch, Box(), budget=3.0)
    assert (made.status, made.within) == ("failed", False)
    assert "4.0 MB exceed the budget of 3 MB by 1.0 MB" in made.reason
    assert made.fitting
    assert all(one.size_mb <= 3.0 for one in made.fitting)
    assert go(monkeypatch, Box(), budget=4.0).within is True


def test_what_a_validator_refuses_is_failed_and_stays_to_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    finished()
    made = go(monkeypatch, Box(state="failed"))
    assert (made.status, made.reason) == ("failed", "lid: it does not shut")
    assert (SPACE.bundle("box") / "what").is_file()


def test_what_cannot_be_built_is_a_record_and_leaves_no_half(monkeypatch: pytest.MonkeyPatch) -> None:
    finished()
    made = go(monkeypatch, Box(refuses="no room for it"))
    assert (made.status, made.reason) == ("failed", "no room for it")
    assert not list(SPACE.bundle("box").parent.glob("box*/**/what"))


def test_a_target_is_one_of_params_or_a_kind_with_its_defaults() -> None:
    params, known = load_params(ROOT), catalogue("causal-lm")
    phone = wanted_of(params, "ios", known)
    assert (phone.kind, phone.device, phone.budget_mb) == ("ios", "iphone", 50.0)
    assert phone.gate["decode_speedup"] is None
    assert "retention" not in phone.gate and "artifact_share" not in phone.gate
    named = params.model_copy(update={"targets": {"mine": Wanted(kind="ios", device="iphone")}})
    assert wanted_of(named, "mine", known) == named.targets["mine"]
    with pytest.raises(ConfigError, match="target 'fridge' is not known; allowed: .*ios"):
        wanted_of(params, "fridge", known)


def test_only_what_the_device_itself_would_tell_is_no_gate_elsewhere() -> None:
    known = catalogue("causal-lm")
    assert all(untold(known, name) for name in ("decode_speedup", "latency_drift", "memory_share", "energy_share"))
    assert not any(untold(known, name) for name in ("retention", "mean_kl", "artifact_share", "security_findings"))


@pytest.mark.parametrize("kind", table.BUNDLING)
def test_every_kind_that_bundles_has_defaults_of_a_device_that_is_there(kind: str) -> None:
    from tasks.hardware.profiles import named
    from tasks.params.pipeline import HOST

    found = table.defaults(kind)
    assert found is not None
    assert found.device == HOST or named(found.device, kind).device == found.device
    assert isinstance(table.target(kind, "mine", found.device), table.Bundles)


def test_a_target_that_makes_no_bundle_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    finished()
    found = Judged(
        "desk",
        Wanted(kind="host-server"),
        table.target("host-server", "desk", "host"),
        GateReport.read(SPACE.verdicts),
        Recommendation.read(SPACE.recommendation),
    )
    monkeypatch.setattr(stage, "judged", lambda *_: found)
    with pytest.raises(ConfigError, match="makes no bundle; kinds that do: ios"):
        bundle(SPACE, load_params(ROOT), "desk")
    made = recorded(SPACE, load_params(ROOT), "desk")  # and as a stage it is no error
    assert made.status == "refused"
    assert "takes the package as it is" in made.reason
    assert Bundle.read(SPACE.bundle_record("desk")) == made
    assert list(SPACE.bundle("desk").iterdir()) == []


def test_as_a_stage_what_no_gate_passed_is_a_record_with_an_empty_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    finished()
    go(monkeypatch, Box())
    finished(outcome="fail")
    found = stage.judged(SPACE, load_params(ROOT), "box")
    failed = replace(found, report=GateReport.read(SPACE.verdicts))
    monkeypatch.setattr(stage, "judged", lambda *_: failed)
    assert recorded(SPACE, load_params(ROOT), "box").status == "refused"
    assert list(SPACE.bundle("box").iterdir()) == []
    assert main(["--target", "box", "--record"]) == EXIT_OK
    assert main(["--target", "box"]) == EXIT_FAIL
