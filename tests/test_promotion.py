"""Router and rollout as processes: promotion under traffic, what goes wrong in it, and what is left afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from flows import drill
from flows.rig import Rig, Traffic, rig
from tasks.errors import ConfigError, ModelError, RegistryError, ResourceError
from tasks.promotion import evidence, staging
from tasks.promotion.__main__ import main, packaged, status
from tasks.promotion.evidence import Evidence, Exchange, Tail
from tasks.promotion.judge import Arm, Margins, breach
from tasks.promotion.registrar import FileRegistrar, MlflowRegistrar
from tasks.promotion.rollout import Slot, State
from tasks.promotion.store import Store
from tasks.serve.prediction_log import NAME, Prediction, PredictionLog

# -- as processes ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_promotion_under_traffic_fails_nobody_and_is_undone_in_one_step(tmp_path: Path) -> None:
    with rig(tmp_path, shares=[10, 50, 100]) as one:
        old = one.state()
        with Traffic(one.base, one.model) as traffic:
            new = one.deploy()
            with pytest.raises(ConfigError, match="is under way"):
                one.deploy()
            one.until(drill.idle, 120, "the end")
            assert one.state().slot(one.state().champion) == new, one.state().reason
            assert drill.whole(one)
            began = time.monotonic()
            one.store.give("rollback", "ann", "it was better before")
            one.until(lambda state: state.slot(state.champion) == old.blue and drill.idle(state), 20, "the old version")
            assert time.monotonic() - began < 10 and drill.whole(one)
        assert not traffic.failed and traffic.sent > 300
        assert set(traffic.versions) == {slot.version for slot in one.versions}
        text = "\n".join(lines(one))
        assert "shadow -> ramp (10%)" in text and "requests_new" in text and "it was better before" in text


def lines(one: Rig) -> list[str]:
    """What `status` shows, run where the router runs."""
    command = [sys.executable, "-m", "tasks.promotion", "--folder", str(one.store.folder), "status"]
    run = subprocess.run(command, cwd=one.folder, env=one.environment, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


@pytest.mark.slow
def test_a_version_that_turns_bad_is_rolled_back(tmp_path: Path) -> None:
    found = drill.faults(tmp_path, 25.0)
    assert [name for name, took, _ in found if took is None] == []
    assert len(found) == len(drill.FAULTS)


@pytest.mark.slow
def test_a_version_that_is_never_ready_meets_nobody(tmp_path: Path) -> None:
    assert drill.never_ready(tmp_path)


@pytest.mark.slow
def test_a_kill_in_the_middle_comes_to_one_end(tmp_path: Path) -> None:
    found = drill.kills(tmp_path, 50.0, ("ramp",))
    assert (found["kills"], found["half"], found["failed"]) == (len(drill.VICTIMS), 0, 0)
    assert found["broken"] <= 8  # answers that were under way in the process that was killed


@pytest.mark.slow
def test_without_callers_a_ramp_holds(tmp_path: Path) -> None:
    assert drill.traffic_stops(tmp_path, 4.0) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_costs_no_request(tmp_path: Path) -> None:
    assert drill.full_disk(tmp_path, 60) == 0


def test_noise_is_refused(tmp_path: Path) -> None:
    assert drill.malformed(tmp_path, 120) == 0


@pytest.mark.slow
def test_an_ab_test_keeps_callers_where_they_are_and_is_judged(tmp_path: Path) -> None:
    with rig(tmp_path, shares=[50, 100]) as one:
        champion = one.state().slot(one.state().champion).version
        with Traffic(one.base, one.model):
            slot = one.deploy("ab", 40.0)
            one.until(lambda state: state.phase == "ab", 60, "the A/B test")
            found: dict[str, set[str]] = {}
            for turn in range(60):
                key = f"session-{turn % 20}"
                body = {"model": one.model, "prompt": "hello", "max_tokens": 2}
                answer = httpx.post(f"{one.base}/v1/completions", json=body, headers={"x-session-id": key})
                found.setdefault(key, set()).add(answer.headers["x-edgewright-version"])
            assert all(len(versions) == 1 for versions in found.values())
            assert set().union(*found.values()) == {champion, slot.version}
            until = time.monotonic() + 30
            while "ab -> ab" not in "\n".join(lines(one)):
                assert time.monotonic() < until
            one.store.give("rollback", "ann", "seen enough")
            one.until(drill.idle, 20, "the end of the test")
        assert one.state().slot(one.state().champion).version == champion
        pinned = httpx.post(f"{one.base}/v2/models/{one.model}/versions/9/infer", json={"inputs": []})
        assert pinned.status_code == 404


@pytest.mark.slow
def test_the_flow_drives_a_promotion_and_takes_up_one_that_is_under_way(tmp_path: Path) -> None:
    assert drill.flow_kills(tmp_path, ("shadow",)) == 0


def test_commands_without_a_router_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--folder", str(tmp_path / "none")]
    assert main([*folder, "deploy", "--version", "2"]) == ResourceError.exit_code
    assert "no router is at work" in capsys.readouterr().err
    assert main([*folder, "status"]) == 0
    assert "no router is at work; idle" in capsys.readouterr().out


# -- parts -------------------------------------------------------------------------------------------------------------


def prediction(number: int, version: str = "1", **changes: object) -> Prediction:
    values = {
        "request_id": f"req-{number}", "when": "2026-01-01T00:00:00+00:00", "version": version, "slot": "blue",
        "endpoint": "/v1/completions", "outcome": "ok", "finish": "stop", "prompt_sha256": "0" * 64,
        "prompt_tokens": 3, "new_tokens": 4, "first_token_ms": 5.0, "inter_token_ms": 1.0, "whole_ms": 9.0,
        "confidence": 0.5,
    }  # fmt: skip
    return Prediction.model_validate(values | changes)


def test_evidence_outlives_the_router_and_a_log_that_turns(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "blue", 2000, 3)
    seen = Evidence(tmp_path / "router", [tmp_path / "blue"])
    for number in range(20):  # several files
        log.add(prediction(number))
        seen.note(Exchange(when=10.0 + number, request_id=f"req-{number}", version="1", kind="live", ok=number != 3))
        seen.refresh()
    seen.note(Exchange(when=40.0, request_id="probe-1", version="1", kind="probe", ok=True, agreement=0.7))
    arm = seen.arm("1", 15.0)
    assert (arm.requests, arm.errors, list(arm.agreement)) == (16, 0, [0.7])
    assert len(seen.arm("1", 0.0).first_ms) == 20 and seen.arm("1", 0.0).errors == 1
    assert seen.arm("1", 0.0, ("probe",)).requests == 1 and seen.arm("2", 0.0).requests == 0
    seen.close()
    again = Evidence(tmp_path / "router", [tmp_path / "blue"])
    assert again.arm("1", 0.0).requests == 21
    again.close()


def test_a_tail_gives_whole_lines_once(tmp_path: Path) -> None:
    file = tmp_path / NAME
    tail = Tail(file)
    assert tail.lines() == []
    file.write_bytes(b"a\nb")
    assert tail.lines() == [b"a"]
    with file.open("ab") as stream:
        stream.write(b"c\n")
    assert tail.lines() == [b"bc"] and tail.lines() == []


def test_a_breach_is_not_waited_for() -> None:
    well = Arm(50, 0, [10.0 + i % 7 for i in range(50)], [1.0 + i % 3 / 10 for i in range(50)], [1.0] * 50, [0.9] * 50)
    few = 12
    cases = {
        "errors": Arm(few, 6),
        "first token": Arm(few, 0, [90.0 + i for i in range(few)], [1.0] * few, [1.0] * few, [0.9] * few),
        "agreement": Arm(few, 0, [10.0] * few, [1.0] * few, [1.0] * few, [0.01 * (i % 2) for i in range(few)]),
        "confidence": Arm(few, 0, [10.0] * few, [1.0] * few, [0.2 + i / 100 for i in range(few)], [0.9] * few),
    }
    assert breach(well, well, Margins()) is None
    for name, arm in cases.items():
        found = breach(well, arm, Margins())
        assert found is not None and found.measures[name] == "fail", name
    assert breach(well, Arm(5, 5), Margins()) is None  # too few to tell anything


def test_orders_wait_for_a_router_and_are_answered(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ResourceError, match="has not answered"):
        store.give("rollback", "ann", "why", patience_s=0.1)
    waiting = store.waiting()
    assert waiting is not None and waiting.action == "rollback"
    with pytest.raises(ResourceError, match="another order waits"):
        store.give("rollback", "ann", "why", patience_s=0.1)
    store.answer(waiting, False, "no")
    assert store.waiting() is None
    with store.held():
        assert store.runs()
        with pytest.raises(ResourceError, match="a router is at work already"), store.held():
            pass
    assert not store.runs()
    assert status(store)[0].startswith("no router is at work; idle")


def test_what_may_not_be_served_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no package"):
        packaged(tmp_path)
    made = Rig(tmp_path / "rig")
    folder = Path(made.versions[0].package)
    (folder / "tokenizer/tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="was changed"):
        packaged(folder)


async def _settled(file: Path) -> tuple[str, str]:
    registrar = FileRegistrar(file)
    before = await registrar.champion()
    await registrar.settle("7", False, "ann", "why")
    with pytest.raises(RegistryError, match="package folders"):
        await registrar.locate("7")
    return before, await registrar.champion()


def test_the_registrars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    assert asyncio.run(_settled(tmp_path / "champion.json")) == ("", "7")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none' / 'mlflow.db'}")
    with pytest.raises(RegistryError, match="has no model"):
        asyncio.run(MlflowRegistrar("nobody").champion())


def test_staging_names_what_is_wrong() -> None:
    found = staging.check("http://127.0.0.1:9", "nobody")
    assert set(found) == {"OpenAI's client", "the Open Inference Protocol's client", "load", "bad input"}
    assert all(found.values())


def test_texts_that_can_be_compared() -> None:
    assert evidence.texts_of(json.dumps({"choices": [{"text": "x"}]}).encode()) == "x"
    assert evidence.texts_of(b"[1]") == evidence.texts_of(b"{") == ""


def test_a_state_of_another_form_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(State(blue=Slot(version="1")))
    assert store.state().blue.version == "1"
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]
