"""Tuning: what is tried, what is kept and why, and that a budget and a crash are respected."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest

from tasks import tune as stage
from tasks.backends.base import threads_of
from tasks.backends.table import MODULES, backend
from tasks.errors import ChildError
from tasks.kinds.causal_lm import files
from tasks.kinds.causal_lm.rows import Prompts
from tasks.kinds.table import catalogue
from tasks.measure import guard
from tasks.measure.passes import Passes
from tasks.measure.requests import MeasureRequest
from tasks.measure.timing import Times
from tasks.records.speed import Paired, Tuned
from tasks.run.stage import settings_of
from tasks.run.workspace import Workspace
from tasks.search import tuning
from tests import factories as make

GGUF = "gguf-q8_0"


def test_doctests() -> None:
    assert doctest.testmod(tuning).failed == 0


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_backend_says_what_may_be_tuned(name: str) -> None:
    settings = backend(name).SETTINGS
    assert all(len(values) >= 2 and len(set(values)) == len(values) for values in settings.values())


def test_half_of_the_threads() -> None:
    assert [threads_of({"threads": "half"}, n) for n in (1, 2, 8)] == [1, 1, 4]
    assert threads_of(None, 8) == threads_of({"threads": "all"}, 8) == 8


def paired(value: float, low: float, high: float) -> Paired:
    return Paired(value=value, low=low, high=high, blocks=4, pairs=8)


@pytest.mark.parametrize(
    ("decode", "prefill", "said"),
    [
        ((1.2, 1.1, 1.3), (1.0, 0.95, 1.05), ""),
        ((1.2, 0.9, 1.6), (1.0, 0.95, 1.05), "does not stand out"),
        ((1.01, 1.005, 1.015), (1.0, 0.99, 1.01), "not worth a change"),
        ((1.4, 1.3, 1.5), (0.8, 0.7, 0.9), "prefill is slower"),
    ],
)
def test_a_combination_is_kept_only_when_it_surely_helps(decode: Any, prefill: Any, said: str) -> None:
    found = tuning.verdict(
        catalogue(), {"decode_tokens_per_s": paired(*decode), "prefill_tokens_per_s": paired(*prefill)}
    )
    assert (said in found) if said else found == ""
    assert tuning.verdict(catalogue(), {"decode_tokens_per_s": paired(1.2, 1.1, 1.3)}) == "too few timings count"


class Machine:
    """Answers timings: smaller pieces of a prompt help by a fifth, whatever is called `broken` ends the process."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self.broken = ""
        self.absent = "none"
        self.devices: dict[str, float] = {}  # times as fast as the processor

    def __call__(self, name: str, request: MeasureRequest) -> Times:
        change = request.opening.settings
        self.seen.append(change)
        if self.broken in change:
            raise ChildError("was ended by SIGSEGV", kind="killed")
        if change.get("device") == self.absent:
            raise ChildError("its driver is not there", kind="failed")
        speed = (
            100.0 * (1.2 if change.get("n_ubatch") == "128" else 1.0) * self.devices.get(change.get("device", ""), 1.0)
        )
        wave = 1 + 0.002 * (len(self.seen) % 3)
        samples = {"prefill_tokens_per_s": [speed * wave] * 2, "decode_tokens_per_s": [speed / wave]}
        return Times(samples=samples, disturbance=make.disturbance())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(guard, "DEVICE_LOCK", tmp_path / "lock")
    Prompts(short=((1, 2),), long=((1, 2),)).write(Workspace().data / files.PROMPTS)
    make.hardware().write(Workspace().hardware)
    make.profile().write(Workspace().profile)
    make.fetched(Workspace())
    made = Machine()
    monkeypatch.setattr(Passes, "time", made)
    return made


def run(*again: str, **blocks: Any) -> dict[str, Tuned]:
    params = make.params(**blocks)
    entries = {name: make.plan_entry(name) for name in make.VARIANTS if name == GGUF or name == "torch-fp32"}
    artifacts = {name: make.artifact(name) for name in entries}
    for name, made in artifacts.items():
        made.write(Workspace().artifact_record(name))
        make.listed(Workspace(), name)
        entries[name].write(Workspace().plan(name))
    chosen = {name: variant for name, variant in params.variants.items() if name in entries}
    stage.tune(Workspace(), params.model_copy(update={"variants": chosen}), again)
    return {name: Tuned.read(Workspace().tuned(name)) for name in MODULES}


def test_what_helps_is_kept_and_used_for_candidates_alone(machine: Machine) -> None:
    found = run()["gguf"]
    assert found.settings == {"n_ubatch": "128"}
    assert found.gain["decode_tokens_per_s"].value == pytest.approx(1.2, rel=0.01)
    assert len(found.trials) == len(tuning.single_changes(backend("gguf").SETTINGS)) - (
        "threads" not in str(machine.seen)
    )
    assert settings_of(Workspace(), make.plan_entry(GGUF)) == {"n_ubatch": "128"}
    assert settings_of(Workspace(), make.plan_entry("gguf-f16")) == {}


def test_what_did_not_change_is_not_timed_again(machine: Machine) -> None:
    before = run()
    machine.seen.clear()
    assert run() == before and machine.seen == []
    run("gguf")
    assert machine.seen


def test_finding_the_same_settings_again_is_no_change_to_what_depends_on_them(machine: Machine) -> None:
    run()
    before = Workspace().settings("gguf").read_bytes(), Workspace().tuned("gguf").read_bytes()
    run(tune={"budget_s": 50.0})
    after = Workspace().settings("gguf").read_bytes(), Workspace().tuned("gguf").read_bytes()
    assert before[0] == after[0] and before[1] != after[1]


def test_a_setting_that_ends_the_process_is_left_out(machine: Machine) -> None:
    machine.broken = "kv_cache"
    found = run()["gguf"]
    assert found.settings == {"n_ubatch": "128"}
    assert any("SIGSEGV" in trial.reason for trial in found.trials)


def test_the_budget_is_kept_and_none_means_defaults(machine: Machine) -> None:
    found = run(tune={"budget_s": 1e-9})["gguf"]
    assert found.settings == {} and all("not tried" in trial.reason for trial in found.trials)
    machine.seen.clear()
    assert run(tune={"budget_s": 0.0})["gguf"].reason == "defaults: tune.budget_s is 0" and machine.seen == []


def test_backends_without_a_timed_candidate_keep_their_defaults(machine: Machine) -> None:
    assert run()["openvino"].reason == "defaults: no candidate of it is timed on this device"


def with_gpu() -> None:
    """A machine with a GPU that llama.cpp's build may drive."""
    gpu = {"kind": "gpu", "name": "Some GPU", "runtime": "cuda", "available": True}
    make.hardware(accelerators=(gpu,)).write(Workspace().hardware)


@pytest.mark.parametrize(("faster", "kept"), [(1.5, {"device": "GPU", "n_ubatch": "128"}), (0.9, {"n_ubatch": "128"})])
def test_a_device_that_is_there_is_tried_and_stays_where_it_gains(
    machine: Machine, faster: float, kept: dict[str, str]
) -> None:
    with_gpu()
    machine.devices = {"GPU": faster}
    found = run()["gguf"]
    assert found.settings == kept
    [trial] = [one for one in found.trials if one.settings == {"device": "GPU"}]
    assert trial.speedups["decode_tokens_per_s"] == pytest.approx(faster, rel=0.02)


def test_a_device_that_opens_nothing_is_left_out_with_the_reason(machine: Machine) -> None:
    with_gpu()
    machine.absent = "GPU"
    found = run()["gguf"]
    assert found.settings == {"n_ubatch": "128"}
    [trial] = [one for one in found.trials if one.settings == {"device": "GPU"}]
    assert "its driver is not there" in trial.reason


def test_a_device_that_is_asked_for_is_taken_and_the_rest_is_tuned_on_it(machine: Machine) -> None:
    with_gpu()
    found = run(accelerate={"device": "gpu"})["gguf"]
    assert found.settings == {"device": "GPU", "n_ubatch": "128"}
    assert all(one.get("device") == "GPU" for one in machine.seen)
    assert run(accelerate={"device": "npu"})["gguf"].settings == {"n_ubatch": "128"}  # there is none
    machine.seen.clear()
    assert run(accelerate={"device": "gpu"}, tune={"budget_s": 0.0})["gguf"].settings == {"device": "GPU"}
    assert machine.seen == []
    machine.seen.clear()
    run(accelerate={"device": "gpu", "on_fallback": "refuse"}, tune={"budget_s": 0.0})
    assert machine.seen == []  # what a fallback means is no matter of timing


def test_a_device_that_is_asked_for_and_does_not_run_the_model_leaves_the_processor(machine: Machine) -> None:
    with_gpu()
    machine.absent = "GPU"
    found = run(accelerate={"device": "gpu"})["gguf"]
    assert found.settings == {"n_ubatch": "128"}
    assert found.reason.startswith("GPU was asked for and does not run it (failed: its driver is not there)")
