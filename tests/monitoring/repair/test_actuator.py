"""Steps that are really taken: orders to a real router, whose servers are echoes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring import setup
from monitoring.collect.place import Place
from monitoring.collect.windows import Machine
from monitoring.repair.actuator import Choice, Defaults, ImpossibleError, RouterActuator
from monitoring.watch import Watch
from tasks.errors import ConfigError
from tasks.params.whole import load_whole
from tasks.promotion.store import TRANSITIONS, transitions
from tasks.serve.options import ServerOptions
from tests.drill.promotion import answered, whole
from tests.drill.rig import Rig, Traffic, rig

DEFAULTS = Defaults(cores=(0, 1), slots=32, context=1024)
QUIET = Machine(cores=2)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("actuator")) as made:
        yield made


def actuator(one: Rig, sizes: tuple[float, float] = (100.0, 50.0)) -> RouterActuator:
    choices = [
        Choice(version=slot.version, package=slot.package, manifest_sha256=slot.manifest_sha256, size_mb=size)
        for slot, size in zip(one.versions, sizes, strict=True)
    ]
    return RouterActuator(one.store, DEFAULTS, lambda: choices)


def serving(one: Rig) -> tuple[str, str]:
    state = one.state()
    slot = state.slot(state.champion)
    return slot.version[0], slot.options.said


def test_each_step_takes_over_without_a_request_lost_and_is_taken_back(one: Rig) -> None:
    acting = actuator(one)
    with Traffic(one.base, one.model, callers=4) as traffic:
        for step, after in (
            ("batch", ("1", "slots 16")), ("context", ("1", "context 512")), ("threads", ("1", "threads 1")),
            ("smaller", ("2", "the defaults")),
        ):  # fmt: skip
            said = acting.apply(step, QUIET, "a test")  # type: ignore[arg-type]
            assert serving(one) == after
            assert after[1] in said
            assert answered(one) == one.versions[int(after[0]) - 1].version
            acting.undo(step, "a test")  # type: ignore[arg-type]
            assert serving(one) == ("1", "the defaults")
        color = one.state().champion
        assert "a fresh process" in acting.apply("fresh", QUIET, "a test")
        assert one.state().champion != color
        acting.keep("fresh")
        one.until(lambda state: not state.slot(state.challenger).version, 20.0, "the old process is gone")
    assert not traffic.failed
    assert whole(one)


def test_what_cannot_be_done_says_why_and_changes_nothing(one: Rig, tmp_path: Path) -> None:
    before = one.state()
    with pytest.raises(ImpossibleError, match="no processor is less busy"):
        actuator(one).apply("cores", QUIET, "a test")
    with pytest.raises(ImpossibleError, match="no passed version is smaller"):
        actuator(one, (50.0, 100.0)).apply("smaller", QUIET, "a test")
    with pytest.raises(ImpossibleError, match="nothing here starts an optimization"):
        actuator(one).apply("reoptimize", QUIET, "a test")
    with pytest.raises(ConfigError, match="no version is kept warm"):
        one.store.give("release", "test", "twice")
    assert one.state().model_copy(update={"order": before.order}) == before


def test_a_monitor_beside_a_router_sees_its_versions_its_server_and_its_metrics(one: Rig) -> None:
    params = load_whole(one.folder)
    place = Place(one.store, one.folder / "monitor", one.folder / "repairs.jsonl", one.folder / TRANSITIONS, one.base)
    world = setup.world(place, params, [Path(slot.package) for slot in one.versions])._replace(link=None)  # no registry
    assert world.actuator is not None
    assert world.actuator.busy() == ""
    assert world.setting.backend == "gguf"
    watching = Watch(place, params.monitor)
    watching.look(world, watch_s=0.1)
    with Traffic(one.base, one.model, callers=4, most=300) as traffic:
        while not traffic.done:
            time.sleep(0.05)
    window = watching.look(world, watch_s=0.1)
    assert window.rows == 300 - sum(traffic.failed.values())
    assert set(world.versions) >= {one.versions[0].version}
    values = {name: figure.value for name, figure in window.figures.items()}
    assert values["answered"] is not None
    assert values["answered"] >= 300
    assert values["memory_mb"] is not None
    assert values["ready"] == 1.0
    assert window.problems == {}


def test_another_device_is_one_that_is_here_and_in_the_end_the_processor(one: Rig) -> None:
    defaults = DEFAULTS.model_copy(update={"accelerators": ("GPU",)})
    acting = RouterActuator(one.store, defaults, list)
    acting.apply("device", QUIET, "the processor is hot")
    assert serving(one)[1] == "device GPU"
    acting.apply("device", QUIET, "no better there")
    assert serving(one)[1] == "device CPU"
    acting.undo("device", "a test")
    elsewhere = RouterActuator(one.store, defaults.model_copy(update={"device": "GPU"}), list)
    plain = one.state().slot(one.state().champion).model_copy(update={"options": ServerOptions()})
    assert elsewhere._elsewhere(plain) == "CPU"  # its package was measured on the GPU
    unknown = plain.model_copy(update={"options": ServerOptions(device="NPU")})
    assert elsewhere._elsewhere(unknown) == "CPU"
    with pytest.raises(ImpossibleError, match="no other device"):
        actuator(one).apply("device", QUIET, "a test")


def test_every_repair_is_in_the_book_of_the_router(one: Rig) -> None:
    book = transitions(one.folder / TRANSITIONS)
    assert any("is to take over at once" in line.why for line in book)
    assert {line.after for line in book} <= {"staging", "promote", "idle"}
