"""The stage benchmark: sessions with failing and disturbed blocks, and what is kept when nothing changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks import benchmark as stage
from tasks.errors import ChildError
from tasks.kinds.causal_lm import files
from tasks.kinds.causal_lm.rows import Prompts
from tasks.measure import benchmarks, guard, session
from tasks.measure.endurance import Endured
from tasks.measure.energy import Spent
from tasks.measure.passes import Passes
from tasks.measure.requests import MeasureRequest
from tasks.measure.timing import Memory, Times
from tasks.params import pipeline
from tasks.records.base import Record
from tasks.records.speed import Benchmark
from tasks.run.workspace import Workspace
from tests import factories as make

REFERENCE, FAST, GGUF = "torch-fp32", "openvino-int8", "gguf-f16"  # the last is a rival
WANDERING = "gguf-q8_0"
SPEED = {REFERENCE: 10.0, FAST: 50.0, GGUF: 30.0, WANDERING: 40.0}


def answer(speed: float, others: float = 0.0) -> Times:
    samples = {
        "load_s": [1.0], "first_call_ms": [90.0], "time_to_first_token_ms": [400 / speed, 410 / speed],
        "prefill_tokens_per_s": [20 * speed, 21 * speed], "decode_tokens_per_s": [speed],
        "inter_token_ms": [1000 / speed] * 47,
    }  # fmt: skip
    return Times(samples=samples, runtime={"threads": "2"}, disturbance=make.disturbance(others))


class Machine:
    """Answers for child processes; `trouble` maps (variant, its n-th block) to an exception or to others' cores."""

    def __init__(self) -> None:
        self.trouble: dict[tuple[str, int], Exception | float] = {}
        self.timed: list[str] = []
        self.soaked: list[str] = []
        self.counted: list[str] = []
        self.breaks_under_stress = False
        self.cannot_count = False

    def __call__(self, work: str, variant: str, request: MeasureRequest, kind: type[Record]) -> Record:
        if work == "measure_memory":
            return Memory(idle_rss_mb=50.0, peak_rss_mb=200.0)
        if work == "measure_endurance":
            return self._endured(variant, request.settings, request.stress)
        self.timed.append(variant)
        trouble = self.trouble.get((variant, self.timed.count(variant)))
        if isinstance(trouble, Exception):
            raise trouble
        return answer(SPEED[variant], trouble or 0.0)

    def _endured(self, variant: str, asked: pipeline.Benchmark, stress: bool) -> Endured:
        found = Endured(disturbance=make.disturbance())
        if asked.energy:
            self.counted.append(variant)
            spent = Spent(joules=[0.2, 0.21, 0.2], source="CPU cpu_load, RAM")
            told = {"energy_reason": "no module named codecarbon"} if self.cannot_count else {"spent": spent}
            found = found.model_copy(update=told)
        if stress:
            self.soaked.append(variant)
            if self.breaks_under_stress:
                raise ChildError("was ended by SIGSEGV", kind="killed")
            found = found.model_copy(update={"latency_ms": [9.0, 10.0] * 20, "rss_mb": [100.0] * 40})
        return found


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(guard, "DEVICE_LOCK", tmp_path / "lock")
    prompts = tuple(tuple(range(i, i + 4)) for i in range(6))
    Prompts(short=prompts, long=prompts).write(Workspace().data / files.PROMPTS)
    Workspace().hardware.write_text("{}")
    make.fetched(Workspace())
    made = Machine()
    monkeypatch.setattr(Passes, "_run", made)
    return made


def run(*again: str, variants: tuple[str, ...] = (REFERENCE, FAST, GGUF), **changes: Any) -> dict[str, Benchmark]:
    """The stage over these variants; `changes` are of their plan entries or artifacts, by variant."""
    entries = {name: changes.get(f"plan_{name}", make.plan_entry(name)) for name in variants}
    artifacts = {name: changes.get(f"artifact_{name}", make.artifact(name)) for name in variants}
    for name in variants:
        entries[name].write(Workspace().plan(name))
        artifacts[name].write(Workspace().artifact_record(name))
        make.listed(Workspace(), name, artifacts[name].model_dump_json())
    params = changes.get("params", make.params())
    chosen = {name: variant for name, variant in params.variants.items() if name in variants}
    stage.benchmark(Workspace(), params.model_copy(update={"variants": chosen}), again)
    return {name: Benchmark.read(Workspace().benchmark_record(name)) for name in variants}


def test_all_are_timed_in_turns_and_compared_with_the_reference(machine: Machine) -> None:
    found = run()
    assert found[FAST].paired["decode_tokens_per_s"].value == pytest.approx(5.0)
    assert found[GGUF].paired["time_to_first_token_ms"].value == pytest.approx(3.0)
    assert found[REFERENCE].paired["decode_tokens_per_s"].value == pytest.approx(1.0)
    assert (found[FAST].blocks, found[FAST].busy, found[FAST].status) == (4, "", "ok")
    assert (found[FAST].phases["decode_tokens_per_s"].n, found[FAST].values["peak_rss_mb"]) == (4, 200.0)
    assert machine.timed[0] == machine.timed[-1] == REFERENCE
    blocks = json.loads((Workspace().benchmarks / FAST / benchmarks.BLOCKS).read_text())
    assert {block["variant"] for block in blocks} == {FAST, REFERENCE}
    assert "--again openvino-int8" in (Workspace().benchmarks / FAST / "reproduce.sh").read_text()


def test_what_did_not_change_is_not_timed_again(machine: Machine) -> None:
    before = run()
    machine.timed.clear()
    assert run() == before and machine.timed == []
    changed = run(**{f"artifact_{FAST}": make.artifact(FAST, size_mb=99.0)})
    assert set(machine.timed) == {REFERENCE, FAST}
    assert changed[GGUF] == before[GGUF] and changed[REFERENCE] == before[REFERENCE]
    assert changed[FAST].values["artifact_mb"] == 99.0 != before[FAST].values["artifact_mb"]
    machine.timed.clear()
    run(GGUF, **{f"artifact_{FAST}": make.artifact(FAST, size_mb=99.0)})
    assert set(machine.timed) == {REFERENCE, GGUF}


def test_a_machine_that_was_busy_gets_another_chance(machine: Machine) -> None:
    machine.trouble |= {(FAST, n): 0.9 for n in range(2, 99)}
    assert run()[FAST].busy
    machine.trouble.clear()
    machine.timed.clear()
    assert run()[FAST].busy == "" and set(machine.timed) == {REFERENCE, FAST}


def test_settings_and_the_reference_are_everybodys(machine: Machine) -> None:
    run()
    machine.timed.clear()
    run(params=make.params(benchmark={"new_tokens": 9}))
    assert set(machine.timed) == {REFERENCE, FAST, GGUF}
    machine.timed.clear()
    run(
        params=make.params(benchmark={"new_tokens": 9}),
        **{f"artifact_{REFERENCE}": make.artifact(REFERENCE, seconds=3.0)},
    )
    assert set(machine.timed) == {REFERENCE, FAST, GGUF}


def test_a_variant_that_is_gone_leaves_nothing_behind(machine: Machine) -> None:
    run()
    run(variants=(REFERENCE, FAST))
    assert sorted(folder.name for folder in Workspace().benchmarks.iterdir()) == [FAST, REFERENCE]


def test_what_is_not_timed_has_its_reason(machine: Machine) -> None:
    found = run(
        **{
            f"plan_{FAST}": make.plan_entry(FAST, action="skip", reason="not wanted"),
            f"artifact_{GGUF}": make.artifact(GGUF, status="failed", reason="out of memory"),
        }
    )
    assert (found[FAST].status, found[FAST].reason) == ("skipped", "not wanted")
    assert (found[GGUF].status, found[GGUF].reason) == ("failed", "out of memory")
    assert set(machine.timed) == {REFERENCE}


def test_a_crash_in_the_third_block_leaves_the_variant_undecided_and_the_others_alone(machine: Machine) -> None:
    machine.trouble[FAST, 3] = ChildError("was ended by SIGSEGV", kind="killed")
    found = run()
    assert (found[FAST].status, found[FAST].blocks) == ("ok", 2)
    assert found[FAST].busy == "a timed process failed after 2 that count: killed: was ended by SIGSEGV"
    assert machine.timed.count(FAST) == 3
    assert (found[GGUF].busy, found[GGUF].blocks) == ("", 2)


def test_a_crash_in_the_first_block_is_a_failure(machine: Machine) -> None:
    machine.trouble[FAST, 1] = ChildError("took longer than 600 s and was stopped", kind="timeout")
    found = run()
    assert (found[FAST].status, found[GGUF].status) == ("failed", "ok")
    assert found[FAST].reason == "timeout: took longer than 600 s and was stopped"


def test_without_the_reference_nothing_is_compared(machine: Machine) -> None:
    machine.trouble[REFERENCE, 1] = ChildError("no memory", kind="memory")
    found = run()
    assert {one.status for one in found.values()} == {"failed"}
    assert "torch-fp32" in found[FAST].reason and "no memory" in found[FAST].reason
    assert machine.timed == [REFERENCE]
    broken = run(**{f"artifact_{REFERENCE}": make.artifact(REFERENCE, status="failed", reason="truncated")})
    assert "cannot be timed: truncated" in broken[FAST].reason


def test_a_disturbed_block_is_timed_again(machine: Machine) -> None:
    machine.trouble[FAST, 2] = 0.9
    found = run()
    assert (found[FAST].discarded, found[FAST].blocks, found[FAST].busy) == (1, 4, "")


def test_a_machine_that_stays_busy_leaves_the_speeds_undecided(machine: Machine) -> None:
    machine.trouble |= {(FAST, n): 0.9 for n in range(2, 99)}
    found = run()
    assert (found[FAST].status, found[FAST].blocks) == ("ok", 1)
    assert found[FAST].busy == "1 blocks count, 2 are needed: other processes took 0.9 of a core, the limit is 0.25"
    assert found[FAST].paired == {}


def test_a_variant_no_block_of_which_counts_is_shown_and_decides_nothing(machine: Machine) -> None:
    machine.trouble |= {(FAST, n): 0.9 for n in range(1, 99)}
    found = run()
    assert (found[FAST].status, found[FAST].blocks, found[FAST].paired) == ("ok", 0, {})
    assert "0 blocks count" in found[FAST].busy and found[FAST].phases["decode_tokens_per_s"].p50 == 50.0


def test_memory_that_cannot_be_taken_is_said(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def child(work: str, variant: str, *rest: Any) -> Record:
        if work == "measure_memory" and variant == FAST:
            raise ChildError("needed 900 MB", kind="memory")
        return machine(work, variant, *rest)

    monkeypatch.setattr(Passes, "_run", staticmethod(child))
    found = run()
    assert (found[FAST].status, found[FAST].reason) == ("failed", "memory: memory: needed 900 MB")
    assert found[GGUF].status == "ok"


def test_a_speedup_that_is_not_known_well_gets_more_sessions_up_to_a_budget(machine: Machine) -> None:
    speeds = iter(range(999))

    def wandering(work: str, variant: str, *rest: Any) -> Record:
        found = machine(work, variant, *rest)
        if variant == WANDERING and work == "measure_time":
            assert isinstance(found, Times)
            samples = found.samples | {"decode_tokens_per_s": [30.0 * (1 + next(speeds) % 2)]}
            return found.model_copy(update={"samples": samples})
        return found

    stage_child = pytest.MonkeyPatch()
    stage_child.setattr(Passes, "_run", staticmethod(wandering))
    found = run(variants=(REFERENCE, FAST, WANDERING))
    stage_child.undo()
    assert (found[FAST].blocks, found[WANDERING].blocks) == (4, 6)
    exact = found[FAST].paired["decode_tokens_per_s"]
    assert exact.high / exact.low < 1.21 < found[WANDERING].paired["decode_tokens_per_s"].high


@pytest.mark.parametrize(
    ("rounds", "disturbed", "brief"),
    [
        (3, False, True),
        (2, False, False),  # a single block of the reference between two others of its own: no noise floor yet
        (2, True, False),  # one block of the candidate is left out: no figure yet
    ],
)
def test_later_sessions_time_what_decides_unless_something_else_is_open(
    machine: Machine, rounds: int, disturbed: bool, brief: bool
) -> None:
    asked: list[bool] = []

    def child(work: str, variant: str, request: MeasureRequest, kind: type[Record]) -> Record:
        found = machine(work, variant, request, kind)
        if not isinstance(found, Times):
            return found
        asked.append(request.brief)
        samples = found.samples | ({} if request.brief else {"decode_long_tokens_per_s": [SPEED[variant]]})
        return found.model_copy(update={"samples": samples})

    if disturbed:
        machine.trouble |= {(FAST, n): 0.9 for n in range(1, 4)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Passes, "_run", staticmethod(child))
        found = run(variants=(REFERENCE, FAST), params=make.params(benchmark={"rounds": rounds}))
    assert any(asked) is brief and not asked[0]
    long = [found[name].paired["decode_long_tokens_per_s"] for name in (FAST, REFERENCE)]
    assert [one.value for one in long] == pytest.approx([5.0, 1.0]) and long[0].floor is not None


def test_a_rival_is_timed_in_the_first_session_alone(machine: Machine) -> None:
    found = run()
    assert (found[GGUF].blocks, found[FAST].blocks) == (2, 4)
    assert found[GGUF].final and found[GGUF].paired["decode_tokens_per_s"].value == pytest.approx(3.0)
    machine.timed.clear()
    assert run() == found and machine.timed == [], "one session of a rival is enough"
    machine.timed.clear()
    assert run(GGUF)[GGUF].blocks == 2


def test_properties_of_the_runtime_are_asked_for_once(machine: Machine) -> None:
    asked: list[tuple[str, bool]] = []

    def child(work: str, variant: str, request: MeasureRequest, kind: type[Record]) -> Record:
        if work == "measure_time":
            asked.append((variant, request.tell_runtime))
        return machine(work, variant, request, kind)

    patch = pytest.MonkeyPatch()
    patch.setattr(Passes, "_run", staticmethod(child))
    found = run()
    patch.undo()
    assert [told for variant, told in asked if variant == FAST] == [True, False, False, False]
    assert found[FAST].runtime == {"threads": "2"}


def test_blocks_are_told_as_they_end(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    run()
    said = capsys.readouterr().err
    assert "session 1: 7 blocks" in said and "session 2: 4 blocks" in said and "block 2 of 7" in said
    assert session.FEWEST == 2


def test_candidates_alone_are_soaked(machine: Machine) -> None:
    found = run()
    assert machine.soaked == [FAST]
    soaked = found[FAST].endurance
    assert soaked is not None and soaked.failures == () and soaked.requests == 40
    assert soaked.memory is not None and soaked.memory.value == 0.0
    assert soaked.latency is not None and soaked.latency.low <= 0 <= soaked.latency.high
    assert found[REFERENCE].endurance is None
    run(params=make.params(benchmark={"soak_s": 0.0}))
    assert machine.soaked == [FAST]


def test_a_process_that_dies_under_stress_is_what_it_showed(machine: Machine) -> None:
    machine.breaks_under_stress = True
    found = run()[FAST]
    assert found.status == "ok" and found.endurance is not None
    assert found.endurance.failures == ("killed: was ended by SIGSEGV",)
    assert found.endurance.latency is None and found.endurance.busy


def test_energy_is_counted_for_candidates_and_the_reference_and_an_estimate_is_told(machine: Machine) -> None:
    found = run()
    assert sorted(machine.counted) == sorted([REFERENCE, FAST])
    assert found[FAST].energy is not None and found[FAST].energy.estimated
    assert found[FAST].energy.joules_per_token.n == 3

    machine.cannot_count = True
    again = run(FAST)[FAST]
    assert again.energy is None and "codecarbon" in again.energy_reason and again.status == "ok"
