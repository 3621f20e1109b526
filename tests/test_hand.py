"""Steps that are really taken: orders to a real router, whose servers are echoes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from flows import monitor as command
from flows.drill import answered, whole
from flows.reoptimize import Loop, window_file
from flows.rig import Rig, Traffic, rig
from monitoring.hand import Choice, Defaults, ImpossibleError, RouterHand
from monitoring.watch import Place, State, Watch
from monitoring.windows import Machine, Window
from tasks import config
from tasks.errors import ConfigError
from tasks.promotion.store import transitions

DEFAULTS = Defaults(cores=(0, 1), slots=32, context=1024)
QUIET = Machine(cores=2)
T0 = 1_790_000_000.0


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("hand")) as made:
        yield made


def hand(one: Rig, sizes: tuple[float, float] = (100.0, 50.0)) -> RouterHand:
    choices = [
        Choice(version=slot.version, package=slot.package, manifest_sha256=slot.manifest_sha256, size_mb=size)
        for slot, size in zip(one.versions, sizes, strict=True)
    ]
    return RouterHand(one.store, DEFAULTS, lambda: choices)


def serving(one: Rig) -> tuple[str, str]:
    state = one.state()
    slot = state.slot(state.champion)
    return slot.version[0], slot.running.said


def test_each_step_takes_over_without_a_request_lost_and_is_taken_back(one: Rig) -> None:
    acting = hand(one)
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
        hand(one).apply("cores", QUIET, "a test")
    with pytest.raises(ImpossibleError, match="no passed version is smaller"):
        hand(one, (50.0, 100.0)).apply("smaller", QUIET, "a test")
    with pytest.raises(ImpossibleError, match="nothing here starts an optimization"):
        hand(one).apply("reoptimize", QUIET, "a test")
    with pytest.raises(ConfigError, match="no version is kept warm"):
        one.store.give("release", "test", "twice")
    assert one.state().model_copy(update={"order": before.order}) == before


def test_a_monitor_beside_a_router_sees_its_versions_its_server_and_its_metrics(one: Rig) -> None:
    params = config.load(one.folder / "params.yaml")
    place = Place(
        one.store, one.folder / "monitor", one.folder / "repairs.jsonl", one.folder / "mlruns/rollouts.jsonl", one.base
    )
    world = command.world(place, params, [Path(slot.package) for slot in one.versions])
    assert world.hand is not None
    assert world.hand.busy() == ""
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


def test_every_repair_is_in_the_book_of_the_router(one: Rig) -> None:
    book = transitions(one.folder / "mlruns/rollouts.jsonl")
    assert any("is to take over at once" in line.why for line in book)
    assert {line.after for line in book} <= {"staging", "promote", "idle"}


def test_a_window_with_texts_becomes_data_for_the_pipeline_and_one_without_says_so(tmp_path: Path) -> None:
    from tasks.promotion.store import Store
    from tests import logs

    place = Place(Store(tmp_path / "serve"), tmp_path / "monitor")
    made = logs.traffic(100, T0, 10.0)
    logs.write(tmp_path / "serve" / "blue", made)
    with pytest.raises(ImpossibleError, match="serve.log_text"):
        window_file(place, 50)
    for number, row in enumerate(made):
        row |= {"prompt": f"prompt {number // 2}", "answer": "an answer"}
    logs.write(tmp_path / "serve" / "green", made)
    assert len(window_file(place, 50).read_text().splitlines()) == 50  # each prompt once
    calm, other = (
        Window(number=n, began=T0, ended=T0 + 8.0, version="3", rows=9, drift=d) for n, d in ((1, "none"), (2, "drift"))
    )
    State(windows=(calm, other)).write(place.folder / "state.json")
    late = {json.loads(line)["question"] for line in window_file(place, 5).read_text().splitlines()}
    assert late == {row["prompt"] for row in made if datetime.fromisoformat(row["when"]).timestamp() >= T0 + 8.0}
    loop = Loop(place, config.load())
    assert loop.busy() == ""
    assert "asked for in" in loop.retrain("other prompts")
