"""Readiness: a model process that dies or hangs turns it red and is started again."""

from __future__ import annotations

from pathlib import Path

import httpx
import psutil
import pytest

from tests.serving import events, server
from tests.tasks.serve.asking import LONG


def test_a_dead_model_process_turns_it_red_and_is_started_again(made: Path, tmp_path: Path) -> None:
    with server(tmp_path, made, probe_s=0.5) as one:
        with httpx.stream("POST", f"{one.base}/v1/completions", json={**LONG, "stream": True}) as response:
            told = events(response)
            next(told)
            one.model_process.kill()
            assert list(told)[-1]["error"]["type"] == "server_error"
        one.until(ready=False, seconds=30)
        assert one.post("/v1/completions", LONG).status_code == 503
        one.until(ready=True, seconds=30)
        assert one.post("/v1/completions", LONG).status_code == 200
        assert one.metric("edgewright_model_restarts") == 1


def test_a_model_that_hangs_turns_it_red_and_is_started_again(made: Path, tmp_path: Path) -> None:
    with server(tmp_path, made, probe_s=0.5, hang_s=2.0) as one:
        stopped = one.model_process
        stopped.suspend()
        one.until(ready=False, seconds=30)
        one.until(ready=True, seconds=30)
        assert not psutil.pid_exists(stopped.pid) or one.model_process.pid != stopped.pid


@pytest.mark.parametrize(
    ("got", "alike"),
    [
        ([(1, -0.5), (2, -0.7), (3, -0.1)], True),
        ([(1, -0.5), (9, -0.8), (7, -2.0)], True),  # two tokens as likely: what follows is another text
        ([(1, -0.5), (9, -2.5), (3, -0.1)], False),
        ([(9, None), (2, -0.7), (3, -0.1)], False),
    ],
)
def test_an_answer_of_the_probe_may_part_at_a_tie_alone(got: list[tuple[int, float | None]], alike: bool) -> None:
    from tasks.serve.model.health import same

    assert same(got, [(1, -0.5), (2, -0.7), (3, -0.1)]) == alike
