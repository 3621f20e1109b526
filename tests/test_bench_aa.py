"""The parts of `make bench-aa`: the slowdown is real, and losses are judged by the gates."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from flows import bench_aa
from flows.bench import Limit, summary, table, where_time_goes
from tasks import paths
from tasks.measure.pairing import Block
from tasks.measure.quality import Tokens, summarise
from tasks.measure.session import Session, Taken
from tasks.records import write_text
from tests import factories as make

TOKEN_S = 0.004


class Steady:
    """A session that takes the same time for every token."""

    def prefill(self, ids: Sequence[int]) -> None:
        time.sleep(TOKEN_S * len(ids))

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: Callable[[int], None] | None = None) -> list[int]:
        for token in range(new_tokens):
            time.sleep(TOKEN_S)
            if on_token:
                on_token(token)
        return list(range(new_tokens))

    def runtime(self) -> dict[str, str]:
        return {"threads": "2"}


def took(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def test_a_slowed_session_does_the_same_in_more_time() -> None:
    plain, slow = Steady(), bench_aa.Slowed(Steady(), 0.5)
    seen: list[int] = []
    assert slow.generate([1], 5, seen.append) == plain.generate([1], 5) == seen
    assert slow.runtime() == {"threads": "2"}
    prompt = range(20)
    assert 1.2 < took(lambda: slow.prefill(prompt)) / took(lambda: plain.prefill(prompt)) < 2.5
    assert 1.2 < took(lambda: slow.generate([1], 20)) / took(lambda: plain.generate([1], 20)) < 2.5


def blocks(speeds: dict[str, float]) -> Session:
    order = ["itself", "same-0", "slower-0"] * 4 + ["itself"]
    made = [Block(name, float(i), {"decode_tokens_per_s": [speeds[name]]}) for i, name in enumerate(order)]
    return Session("itself", made, {name: Taken() for name in speeds})


def test_a_verdict_on_speed() -> None:
    session = blocks({"itself": 100.0, "same-0": 100.0, "slower-0": 90.0})
    assert bench_aa._verdict(session, "same-0", "decode_tokens_per_s") == "equal"
    assert bench_aa._verdict(session, "slower-0", "decode_tokens_per_s") == "slower"
    faster = blocks({"itself": 80.0, "same-0": 100.0, "slower-0": 90.0})
    assert bench_aa._verdict(faster, "same-0", "decode_tokens_per_s") == "faster"
    assert bench_aa._verdict(faster, "same-0", "prefill_tokens_per_s") == "undecided"  # nothing was timed


@pytest.mark.parametrize(("lost", "outcome"), [(0.0, "pass"), (0.005, "pass"), (0.08, "fail")])
def test_a_loss_of_accuracy_is_judged_by_the_gates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: float, outcome: str
) -> None:
    monkeypatch.chdir(tmp_path)
    params = make.params()
    name = next(n for n, variant in params.variants.items() if variant.role == "candidate")
    make.plan_entry(name).write(paths.plan(name))
    dice, rows, length = np.random.default_rng(1), 40, 200
    row = np.repeat(np.arange(rows, dtype=np.int32), length)
    right = dice.random(rows * length) < 0.5
    still = right & (dice.random(rows * length) >= lost)
    one = np.full(rows * length, 2.0)
    reference = Tokens(row, one, right, np.ones_like(right), np.zeros(rows * length))
    quality = summarise(Tokens(row, one + 0.01, still, right == still, np.full(rows * length, 0.01)), reference)
    assert bench_aa.judged(params, quality) == outcome


def test_the_measuring_part_of_a_run_is_the_sum_of_what_scores_and_times(tmp_path: Path) -> None:
    assert where_time_goes(tmp_path) == {"measurement_s": None}
    write_text(tmp_path / paths.TIMES, '{"convert": 100.0, "evaluate": 30.0, "benchmark": 40.0, "gate": 0.2}')
    found = where_time_goes(tmp_path)
    assert found == {"measurement_s": 70.0, "run_convert_s": 100.0, "run_evaluate_s": 30.0, "run_benchmark_s": 40.0}


def test_the_closing_line_says_whether_every_limit_was_kept() -> None:
    limits = {"a": Limit(most=2), "b": Limit(least=19)}
    assert summary("x", {"a": 2.0, "b": 20.0}, limits)["ok"] is True
    assert summary("x", {"a": 3.0, "b": 20.0}, limits)["ok"] is False
    assert summary("x", {"a": 2.0}, limits)["ok"] is False
    assert "<= 2" in table({"a": 2.0, "b": 20.0}, limits)
