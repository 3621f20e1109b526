"""Router and controller as processes: promotion under traffic, what goes wrong in it, and what is left afterwards."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import httpx
import pytest

from tasks.errors import ConfigError
from tests.drill import promotion
from tests.drill.rig import Rig, Traffic, rig, serving
from tests.mapped import encoder


@pytest.mark.slow
def test_a_promotion_under_traffic_fails_nobody_and_is_undone_in_one_step(tmp_path: Path) -> None:
    with rig(tmp_path, shares=[10, 50, 100]) as one:
        old = one.state()
        with Traffic(one.base, one.model) as traffic:
            new = one.deploy()
            with pytest.raises(ConfigError, match="is under way"):
                one.deploy()
            one.until(promotion.idle, 120, "the end")
            assert one.state().slot(one.state().champion) == new, one.state().reason
            assert promotion.whole(one)
            one.store.give("rollback", "ann", "it was better before")
            one.until(
                lambda state: state.slot(state.champion) == old.blue and promotion.idle(state), 60, "the old version"
            )
            assert promotion.whole(one)
        assert not traffic.failed and traffic.sent > 300
        assert set(traffic.versions) == {slot.version for slot in one.versions}
        text = "\n".join(lines(one))
        _, _, after = text.rpartition("it was better before")
        assert "-> ramp" not in after and "-> shadow" not in after, text  # in one step
        assert "shadow -> ramp (10%)" in text and "requests_new" in text and "it was better before" in text


def lines(one: Rig) -> list[str]:
    """What `status` shows, run where the router runs."""
    command = [sys.executable, "-m", "tasks.promotion", "--folder", str(one.store.folder), "status"]
    run = subprocess.run(command, cwd=one.folder, env=one.environment, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


@pytest.mark.slow
def test_a_version_that_turns_bad_is_rolled_back(tmp_path: Path) -> None:
    found = promotion.faults(tmp_path, 25.0)
    assert [name for name, took, _ in found if took is None] == []
    assert len(found) == len(promotion.FAULTS)


@pytest.mark.slow
def test_a_version_that_is_never_ready_meets_nobody(tmp_path: Path) -> None:
    assert promotion.never_ready(tmp_path)


@pytest.mark.slow
def test_a_kill_in_the_middle_comes_to_one_end(tmp_path: Path) -> None:
    found = promotion.kills(tmp_path, 50.0, ("ramp",))
    assert (found["kills"], found["half"], found["failed"]) == (len(promotion.VICTIMS), 0, 0)
    assert found["refused"] == 0
    assert found["broken"] <= found["kills"] * promotion.CALLERS  # under way in the process that was killed


@pytest.mark.slow
def test_without_callers_a_ramp_holds(tmp_path: Path) -> None:
    assert promotion.traffic_stops(tmp_path, 4.0) == 0


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
            one.until(promotion.idle, 20, "the end of the test")
        assert one.state().slot(one.state().champion).version == champion
        pinned = httpx.post(f"{one.base}/v2/models/{one.model}/versions/9/infer", json={"inputs": []})
        assert pinned.status_code == 404


@pytest.mark.slow
def test_the_flow_drives_a_promotion_and_takes_up_one_that_is_under_way(tmp_path: Path) -> None:
    assert promotion.flow_kills(tmp_path, ("shadow",)) == 0


class Embedded(Traffic):
    """Callers that want vectors."""

    async def _ask(self, session: aiohttp.ClientSession, prompt: str, stream: bool) -> str:
        try:
            async with session.post("/v1/embeddings", json={"input": prompt}) as answer:
                vectors = (await answer.json()).get("data", [])
                self.versions[answer.headers.get("x-edgewright-version", "none")] += 1
                return "" if answer.status == 200 and len(vectors) == 1 else str(answer.status)
        except (TimeoutError, aiohttp.ClientError, ValueError) as problem:
            return type(problem).__name__


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "stays"), [(0.05, False), (3.0, True)])
def test_an_encoder_is_promoted_unless_its_vectors_drift(tmp_path: Path, noise: float, stays: bool) -> None:
    packages = [encoder(tmp_path / "a", "a" * 64), encoder(tmp_path / "b", "b" * 64, noise)]
    made = Rig(tmp_path / "rig", {"shares": [50, 100]}, "tasks.serve", packages=packages)
    with serving(made) as one:
        old = one.state().slot(one.state().champion).version
        with Embedded(one.base, one.model, callers=2) as traffic:
            new = one.deploy()
            one.until(lambda state: not promotion.idle(state), 30, "a beginning")
            one.until(promotion.idle, 240, "the end")
        state = one.state()
        assert not traffic.failed and traffic.sent > 100
        assert state.slot(state.champion).version == (old if stays else new.version), state.reason
        assert "agreement" in state.reason or not stays, state.reason
