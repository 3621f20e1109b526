"""The guard on timings: what others took is told from what was timed, and a busy machine decides nothing."""

from __future__ import annotations

import doctest
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tasks.kinds.table import catalogue
from tasks.measure import guard
from tasks.measure.guard import Clocks
from tasks.measure.timing import MB, peak_rss_bytes
from tasks.records.hardware import Disturbance
from tasks.scores.scorecard import scorecard
from tests import factories as make

SPIN = "while True: pass"


def test_doctests() -> None:
    assert doctest.testmod(guard).failed == 0


def spin(process: psutil.Process, seconds: float) -> float:
    """Wait until a process has taken so much of the processors; returns what it took meanwhile."""
    before = now = sum(process.cpu_times()[:2])
    deadline = time.monotonic() + 60
    while now - before < seconds:
        assert time.monotonic() < deadline, f"it got {now - before:.1f} s of a processor in a minute"
        time.sleep(0.05)
        now = sum(process.cpu_times()[:2])
    return now - before


@pytest.mark.alone
def test_own_work_is_told_from_that_of_others() -> None:
    outer = time.process_time()
    before = guard.read()
    inner = time.process_time()
    while time.process_time() < inner + 1.5:
        pass
    inner = time.process_time() - inner
    after = guard.read()
    outer = time.process_time() - outer
    own = after.own - before.own
    assert inner - 0.1 <= own <= outer + 0.1  # whatever else the machine does; the system counts in hundredths
    taken = guard.between(before, after).others_cores * (after.wall - before.wall)
    assert taken == pytest.approx(max(0.0, after.busy - before.busy - own), abs=0.05)


@pytest.mark.alone
def test_a_busy_neighbour_is_seen_for_what_it_takes() -> None:
    neighbour = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        process = psutil.Process(neighbour.pid)
        spin(process, 0.2)  # it has begun
        before = guard.read()
        its = spin(process, 1.5)
        after = guard.read()
    finally:
        neighbour.kill()
        neighbour.wait()
    found = guard.between(before, after)
    assert found.others_cores * found.seconds >= its - 0.1
    assert guard.objection(found, 0.02)


@pytest.mark.parametrize(
    ("texts", "expected"), [(["12 3000000000 4", "5 1000000000 2"], 4.0), (["", "rubbish here 1"], None), ([], None)]
)
def test_run_queue_delay_is_summed_over_threads(tmp_path: Path, texts: list[str], expected: float | None) -> None:
    for number, text in enumerate(texts):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "schedstat").write_text(text)
    assert guard.waited(tmp_path) == expected


def test_what_the_system_does_not_tell_is_unknown_not_zero() -> None:
    found = guard.between(Clocks(0, 0, None, 0, None), Clocks(1, 1, None, 1, None))
    assert (found.stolen_cores, found.waited_s) == (None, None)
    with pytest.raises(ValueError, match="no time"):
        guard.between(Clocks(1, 0, None, 0, None), Clocks(1, 0, None, 0, None))


@dataclass(frozen=True)
class Answer:
    """What a process measured, and what others took meanwhile."""

    decode: float
    disturbance: Disturbance


def once(*taken: float) -> Callable[[], Answer]:
    """A measurement whose tries see others take these shares of a core."""
    tries = list(taken)

    def measure() -> Answer:
        now = tries.pop(0)
        return Answer(80.0 / (1 + now), make.disturbance(now))

    return measure


def test_a_quiet_machine_is_timed_once() -> None:
    found = guard.undisturbed(once(0.02), "x", 0.25, 2)
    assert (found.discarded, found.objection, found.disturbance.others_cores) == (0, "", 0.02)


def test_a_disturbed_timing_is_discarded_and_made_again(capsys) -> None:
    found = guard.undisturbed(once(0.9, 0.01), "block 3", 0.25, 2)
    assert (found.discarded, found.objection) == (1, "")
    assert found.answer.decode == pytest.approx(80 / 1.01)
    assert "block 3: other processes took 0.9 of a core" in capsys.readouterr().err


def test_a_machine_that_stays_busy_is_said_and_the_quietest_try_shown() -> None:
    found = guard.undisturbed(once(0.9, 0.5, 0.7), "x", 0.25, 2)
    assert found.discarded == 2
    assert found.objection == "other processes took 0.5 of a core, the limit is 0.25"
    assert found.answer.decode == pytest.approx(80 / 1.5)


def test_how_much_is_too_much_and_how_often_are_parameters() -> None:
    assert guard.undisturbed(once(0.9), "x", 1.0, 2).objection == ""
    assert guard.undisturbed(once(0.9), "x", 0.25, 0).discarded == 0


def test_speeds_of_a_busy_machine_are_shown_but_leave_the_gates_open() -> None:
    from tasks import gate

    reference, _, _, name, _ = make.VARIANTS
    busy = "other processes took 0.9 of a core, the limit is 0.25"
    benchmarks = {
        reference: make.benchmark(reference, decode_tokens_per_s=make.quantity(15.0, 4), peak_rss_mb=1150.0),
        name: make.benchmark(name, busy=busy),
    }
    plan = {n: make.plan_entry(n) for n in benchmarks}
    rows = scorecard(
        catalogue(), make.params(), plan, {n: make.artifact(n) for n in plan}, {n: make.evaluation(n) for n in plan},
        make.in_turns(benchmarks, reference),
    )  # fmt: skip
    cell = rows[1].metrics["decode_speedup"]
    assert cell.value is not None and cell.undecided == busy
    verdicts = gate.gate(make.params(), make.recommendation(*rows)).verdicts
    found = {e.gate: (e.outcome, e.reason) for e in verdicts[1].expectations}
    assert found["min_decode_speedup"][0] == "inconclusive" and busy in found["min_decode_speedup"][1]
    assert found["max_memory_share"][0] == "pass"


def test_peak_of_memory_is_of_the_process_itself_not_of_the_one_that_started_it() -> None:
    held = bytearray(400 * MB)  # what getrusage would tell of the child, too
    code = "from tasks.measure.timing import peak_rss_bytes; print(peak_rss_bytes())"
    told = int(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout)
    assert peak_rss_bytes() > len(held) > told > 5 * MB
