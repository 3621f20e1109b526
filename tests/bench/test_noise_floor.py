"""The parts of `make bench-aa`: the slowdown is real, and losses are judged by the gates."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tasks.kinds.causal_lm.quality import Tokens, summarise
from tasks.kinds.table import catalogue
from tasks.measure.pairing import Block
from tasks.measure.session import Session, VariantTimings
from tasks.run.workspace import Workspace
from tests import factories as make
from tests.bench import noise_floor

TOKEN_S, TICK_S = 0.004, 0.00001


class Clock:
    """A clock that moves with what is done, and a little whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += TICK_S
        return self.now

    def took(self, work: Callable[[], object]) -> float:
        began = self.now
        work()
        return self.now - began


class Steady:
    """A session that takes the same time for every token."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def prefill(self, ids: Sequence[int]) -> None:
        self._clock.now += TOKEN_S * len(ids)

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: Callable[[int], None] | None = None) -> list[int]:
        for token in range(new_tokens):
            self._clock.now += TOKEN_S
            if on_token:
                on_token(token)
        return list(range(new_tokens))

    def runtime(self) -> dict[str, str]:
        return {"threads": "2"}


def test_a_slowed_session_does_the_same_in_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(noise_floor, "time", clock)
    plain, slow = Steady(clock), noise_floor.Slowed(Steady(clock), 0.5)
    seen: list[int] = []
    assert slow.generate([1], 5, seen.append) == plain.generate([1], 5) == seen
    assert slow.runtime() == {"threads": "2"}
    for slowed, usual in (
        (clock.took(lambda: slow.prefill(range(20))), clock.took(lambda: plain.prefill(range(20)))),
        (clock.took(lambda: slow.generate([1], 20)), clock.took(lambda: plain.generate([1], 20))),
    ):
        assert slowed / usual == pytest.approx(1.5, abs=0.05)


def test_a_slowdown_is_spent_spinning() -> None:
    slow = noise_floor.Slowed(Steady(Clock()), 0.5)
    began, cpu = time.perf_counter(), time.thread_time()
    slow._spin(0.2)
    assert time.perf_counter() - began >= 0.1
    assert time.thread_time() > cpu


def blocks(speeds: dict[str, float]) -> Session:
    order = ["itself", "same-0", "slower-0"] * 4 + ["itself"]
    made = [Block(name, float(i), {"decode_tokens_per_s": [speeds[name]]}) for i, name in enumerate(order)]
    known = catalogue()
    return Session("itself", known.phases, known.deciding, made, {name: VariantTimings() for name in speeds})


def test_a_verdict_on_speed() -> None:
    session = blocks({"itself": 100.0, "same-0": 100.0, "slower-0": 90.0})
    assert noise_floor._verdict(session, "same-0", "decode_tokens_per_s") == "equal"
    assert noise_floor._verdict(session, "slower-0", "decode_tokens_per_s") == "slower"
    faster = blocks({"itself": 80.0, "same-0": 100.0, "slower-0": 90.0})
    assert noise_floor._verdict(faster, "same-0", "decode_tokens_per_s") == "faster"
    assert noise_floor._verdict(faster, "same-0", "prefill_tokens_per_s") == "undecided"  # nothing was timed


@pytest.mark.parametrize(("lost", "outcome"), [(0.0, "pass"), (0.005, "pass"), (0.08, "fail")])
def test_a_loss_of_accuracy_is_judged_by_the_gates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: float, outcome: str
) -> None:
    monkeypatch.chdir(tmp_path)
    params = make.params()
    name = next(n for n, variant in params.variants.items() if variant.role == "candidate")
    make.plan_entry(name).write(Workspace().plan(name))
    dice, rows, length = np.random.default_rng(1), 40, 200
    row = np.repeat(np.arange(rows, dtype=np.int32), length)
    right = dice.random(rows * length) < 0.5
    still = right & (dice.random(rows * length) >= lost)
    one = np.full(rows * length, 2.0)
    reference = Tokens(row, one, right, np.ones_like(right), np.zeros(rows * length))
    quality = summarise(Tokens(row, one + 0.01, still, right == still, np.full(rows * length, 0.01)), reference)
    assert noise_floor.judged(params, quality) == outcome
