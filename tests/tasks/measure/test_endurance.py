"""Soak and stress on workloads made for it: answers that drift apart are told, a soak notes latency and memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable
from types import SimpleNamespace

import pytest

from tasks.measure import energy
from tasks.measure.endurance import ASKED, at_once, soak


class Plain:
    distinct = 4

    def __init__(self) -> None:
        self.soaked: list[int] = []

    def soak(self, number: int) -> int:
        self.soaked.append(number)
        time.sleep(0.001)
        return 2

    def stress(self, number: int) -> Hashable:
        return number


class Crossed(Plain):
    """Answers otherwise as soon as another of its kind is at work."""

    busy = 0
    gate = threading.Lock()

    def stress(self, number: int) -> Hashable:
        with self.gate:
            type(self).busy += 1
        time.sleep(0.01)
        answer = (number, type(self).busy)
        time.sleep(0.01)
        with self.gate:
            type(self).busy -= 1
        return answer


def test_a_soak_notes_every_request_but_the_first_of_each() -> None:
    work = Plain()
    latency, memory = soak(work, 0.1)  # type: ignore[arg-type]
    assert len(latency) == len(memory) == len(work.soaked) - work.distinct > 10
    assert min(latency) >= 1.0 and min(memory) > 1.0
    assert work.soaked[:6] == [0, 1, 2, 3, 0, 1]


class Counter:
    """A tracker of energy: one watt-hour a task, or none where it is broken."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self._hardware: list[object] = [self]

    def start_task(self) -> None:
        if self.broken == "start":
            raise PermissionError("no counter may be read")

    def stop_task(self) -> SimpleNamespace:
        if self.broken == "stop":
            raise OSError("the counter is gone")
        return SimpleNamespace(energy_consumed=1e-3)


def test_energy_is_counted_in_windows_of_the_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "_tracker", Counter)
    work, meter = Plain(), energy.Meter()
    latency, _ = soak(work, 0.09, meter)  # type: ignore[arg-type]
    assert meter.spent is not None and meter.spent.source == "Counter"
    assert len(meter.spent.joules) == energy.WINDOWS
    assert sum(3600 / each for each in meter.spent.joules) == pytest.approx(2 * len(latency))


@pytest.mark.parametrize(("broken", "said"), [("start", "no counter may be read"), ("stop", "the counter is gone")])
def test_a_soak_goes_on_without_energy(broken: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "_tracker", lambda: Counter(broken))
    meter = energy.Meter()
    latency, _ = soak(Plain(), 0.05, meter)  # type: ignore[arg-type]
    assert len(latency) > 10 and meter.spent is None and said in meter.problem


def test_a_library_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("no module named codecarbon")

    monkeypatch.setattr(energy, "_tracker", missing)
    meter = energy.Meter()
    assert soak(Plain(), 0.02, meter) and meter.spent is None and "codecarbon" in meter.problem  # type: ignore[arg-type]


def test_callers_that_do_not_disturb_each_other_pass() -> None:
    assert at_once([Plain(), Plain()]) == []  # type: ignore[list-item]


def test_callers_that_share_state_are_found_out() -> None:
    [said] = at_once([Crossed(), Crossed()])  # type: ignore[list-item]
    assert "2 callers at once differ" in said


def test_each_caller_has_requests_of_its_own() -> None:
    seen: list[tuple[int, int]] = []

    class Noting(Plain):
        def __init__(self, caller: int) -> None:
            self.caller = caller

        def stress(self, number: int) -> Hashable:
            seen.append((self.caller, number))
            return number

    at_once([Noting(0), Noting(1), Noting(2)])  # type: ignore[list-item]
    asked = [{number for caller, number in seen if caller == one} for one in range(3)]
    assert set.union(*asked) == set(range(3 * ASKED)) and all(len(own) == ASKED for own in asked)


def test_a_caller_that_breaks_is_an_error_of_its_own() -> None:
    class Broken(Plain):
        def stress(self, number: int) -> Hashable:
            raise RuntimeError("out of buffers")

    with pytest.raises(RuntimeError, match="out of buffers"):
        at_once([Plain(), Broken()])  # type: ignore[list-item]
