"""Open-loop load: the schedule, what a step says, how the knee is found; and one real step against a server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tasks.records.load import LoadStep as Step
from tasks.serve.load import load, loadtest
from tasks.serve.load.load import Ask, Objectives, Outcome
from tasks.serve.load.page import page
from tests.serving import NAME, package, server

OBJECTIVES = Objectives(first_ms=500.0, between_ms=50.0)


def step(rate: float, first: float | None = 100.0, between: float | None = 20.0, **changes) -> Step:
    values = {
        "rate": rate, "planned_s": 70 / rate, "seconds": 72 / rate, "requests": 100, "errors": {},
        "achieved": rate, "tokens_per_s": 30 * rate,
        "first_ms_p50": 50.0, "first_ms_p95": first, "between_ms_p50": 10.0, "between_ms_p95": between,
        "whole_ms_p95": 900.0, "late_ms_p95": 1.0,
    }  # fmt: skip
    return Step(**(values | changes))


def test_arrivals_are_poisson() -> None:
    asks = load.schedule(50.0, 100.0, [[1], [2]], [8, 16], seed=3)
    gaps = np.diff([ask.at for ask in asks])
    assert len(asks) == pytest.approx(5000, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)  # an exponential's spread is its mean
    assert {(*ask.prompt, ask.new_tokens) for ask in asks} == {(1, 8), (1, 16), (2, 8), (2, 16)}
    assert load.schedule(5.0, 10.0, [[1]], [8], seed=3) == load.schedule(5.0, 10.0, [[1]], [8], seed=3)


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        (step(1), True),
        (step(1, first=600.0), False),
        (step(1, between=60.0), False),
        (step(1, errors={"429": 2}), False),
        (step(1, errors={"429": 1}), True),
        (step(1, first=None), None),
    ],
)
def test_whether_objectives_are_kept(found: Step, kept: bool | None) -> None:
    assert OBJECTIVES.kept(found) is kept


@pytest.mark.parametrize("capacity", [0.1, 0.7, 3.0, 40.0])
def test_the_knee_is_found_from_below(capacity: float) -> None:
    steps: list[Step] = []
    rate: float | None = 0.5
    while rate is not None and len(steps) < 40:
        steps.append(step(rate) if rate <= capacity else step(rate, first=2000.0))
        rate = load.next_rate(steps, OBJECTIVES, factor=1.7, closest=1.25)
    best = loadtest.highest(steps, OBJECTIVES)
    assert len(steps) < 20 and best is not None and capacity / 1.25 <= best <= capacity


def test_a_server_that_falls_behind_is_saturated_however_fast_it_begins() -> None:
    assert load.saturated(step(4, planned_s=20.0, seconds=40.0))
    assert not load.saturated(step(4, planned_s=20.0, seconds=21.0))


def test_a_step_says_what_failed_and_no_percentile_of_few() -> None:
    outcomes = [Outcome(first=0.1, gaps=[0.01] * 7, whole=0.2, tokens=8) for _ in range(20)]
    found = load.summarise(2.0, 10.0, [*outcomes, Outcome(error="429"), Outcome()], 10.0)
    assert (found.requests, found.errors) == (22, {"429": 1, "empty": 1})
    assert found.first_ms_p95 is None and found.between_ms_p95 == pytest.approx(10.0)
    assert found.tokens_per_s == pytest.approx(16.0)


def test_the_page_shows_every_step_and_asks_nobody_for_anything() -> None:
    text = page("Load <test>", "2 requests.", [step(1), step(2, first=None)], 500.0, 50.0)
    assert text.count("<tr>") == 3 and "n too small" in text and "Load &lt;test&gt;" in text
    assert "objective 500 ms" in text and "http://" not in text and "https://" not in text


def test_a_real_step(tiny_model: Path, tmp_path: Path) -> None:
    made = package(tmp_path / "package", tiny_model)
    with server(tmp_path / "server", made, slots=2, queue=0) as one:
        few = [Ask(0.5 * i, [5, 6, 7], 8) for i in range(4)]  # so far apart that a busy machine has a slot free
        outcomes, seconds = asyncio.run(load.run(one.base, NAME, few))
        found = load.summarise(2.0, 2.0, outcomes, seconds)
        assert found.error_rate == 0 and found.tokens_per_s > 0
        assert all(outcome.late < 0.5 for outcome in outcomes)
        assert [outcome.tokens for outcome in outcomes] == [8] * 4  # though pieces hold several
        many = [Ask(0.0, [5, 6, 7], 200) for _ in range(12)]
        outcomes, _ = asyncio.run(load.run(one.base, NAME, many))
        assert {outcome.error for outcome in outcomes} == {"", "429"}
    outcomes, _ = asyncio.run(load.run(one.base, NAME, few[:1]))
    assert outcomes[0].error == "ClientConnectorError"
