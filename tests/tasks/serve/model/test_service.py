"""Several requests at once: places, a queue, deadlines, and clients that go away."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tasks.serve.log.prediction_log import read
from tests.serving import NAME, events, server
from tests.tasks.serve.asking import LONG, PROMPT


def test_answers_beside_others_are_the_same_as_alone(client) -> None:
    prompts = [f"{PROMPT} and {i}" for i in range(12)]

    def one(prompt: str) -> str:
        return client.completions.create(model=NAME, prompt=prompt, max_tokens=16, temperature=0).choices[0].text

    apart = [one(prompt) for prompt in prompts]
    with ThreadPoolExecutor(12) as pool:  # four at once, eight wait
        together = list(pool.map(one, prompts))
    same = sum(a == b for a, b in zip(apart, together, strict=True))
    assert same >= 10, list(zip(apart, together, strict=True))  # a near-tie may turn out otherwise in another batch


def test_an_overloaded_server_says_when_to_come_again(made: Path, tmp_path: Path) -> None:
    with server(tmp_path, made, slots=1, queue=1) as one:
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: one.post("/v1/completions", LONG), range(6)))
        codes = sorted(answer.status_code for answer in answers)
        assert codes[:2] == [200, 200] and codes[-1] == 429, codes
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"


def test_a_client_that_goes_away_stops_its_generation(made: Path, tmp_path: Path) -> None:
    with server(tmp_path, made, slots=1) as one:
        one.post("/v1/completions", LONG)
        with httpx.stream("POST", f"{one.base}/v1/completions", json={**LONG, "stream": True}) as response:
            next(events(response))
        one.model_process.suspend()  # it cannot answer before the client is gone
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{one.base}/v1/completions", json=LONG, timeout=0.5)
        one.model_process.resume()
        deadline = time.monotonic() + 30
        while one.metric('edgewright_errors_total{kind="gone-away"}', absent=0) < 2:
            assert time.monotonic() < deadline, one.get("/metrics").text
            time.sleep(0.02)
        assert one.metric("edgewright_under_way") == 0
        assert one.post("/v1/completions", LONG).status_code == 200
        outcomes = [prediction.outcome for prediction in read(one.log)]
        assert outcomes.count("gone-away") >= 1 and outcomes.count("ok") == 2  # one may have gone while it waited


def test_a_deadline_is_kept(made: Path, tmp_path: Path) -> None:
    with server(tmp_path, made, deadline_s=0.02) as one:
        late = one.post("/v1/completions", LONG)
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline")
