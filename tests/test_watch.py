"""The monitor as a whole, on made-up logs and a hand that only notes: windows, alerts, repairs, and what survives."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from flows import monitor as command
from flows import weekly
from monitoring.diagnose import Setting, Step
from monitoring.hand import ImpossibleError
from monitoring.watch import WINDOWS, Place, Watch, World, held
from monitoring.windows import Machine, Window
from tasks import ledger
from tasks.config import Drift, Monitor, Repair, Rule
from tasks.errors import DataError, EdgewrightError, ResourceError
from tasks.promotion.rollout import Phase
from tasks.promotion.store import Store, Transition
from tasks.serve.address import Address
from tasks.serve.prediction_log import JUDGEMENTS, Judgement
from tests import logs, pipelines
from tests.conftest import ROOT

LENGTH = 100.0
NEVER = 10**6  # rows, so that nothing is compared: that takes most of a second each time
RULES = {
    "slow": Rule(metric="inter_token_p50_ms", kind="rate", above=2.0, severity="page", runbook="look"),
    "drift": Rule(metric="drift", kind="drift", severity="page", runbook="look"),
    "silence": Rule(metric="requests_per_s", kind="absent", runbook="look"),
}


class Hand:
    """Notes what it is told; `effect` is what that does to the traffic."""

    def __init__(self, effect: Callable[[str, Step], None] = lambda what, step: None) -> None:
        self.did: list[str] = []
        self.effect, self.cannot = effect, set[str]()
        self.at, self.serves = "", "version 3"

    def apply(self, step: Step, machine: Machine, why: str) -> str:
        if step in self.cannot:
            raise ImpossibleError(f"{step} cannot be done here")
        self._note("apply", step)
        return f"{step} is done"

    def undo(self, step: Step, why: str) -> str:
        self._note("undo", step)
        return f"{step} is taken back"

    def keep(self, step: Step) -> None:
        self._note("keep", step)

    def busy(self) -> str:
        return self.at

    def serving(self) -> str:
        return self.serves

    def _note(self, what: str, step: Step) -> None:
        self.did.append(f"{what} {step}")
        self.effect(what, step)


class Course:
    """Window after window of made-up traffic."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        block = {
            "window_s": LENGTH, "rules": RULES, "drift": Drift(fewest=NEVER),
            "repair": Repair(observe_s=1.0, cool_down_s=0.0), **settings,
        }  # fmt: skip
        self.settings = Monitor.model_validate(block)
        self.place = Place(
            Store(folder / "serve"), folder / "monitor", folder / "repairs.jsonl", folder / "moves.jsonl"
        )
        self.began = time.time() - 100 * LENGTH
        self.now, self.number = self.began, 0
        self.sent: list[str] = []
        self.hand = Hand()
        self.slow, self.version = 1.0, "3"
        self.setting = Setting(backend="gguf", version="3", slots=8)
        self.watching = Watch(self.place, self.settings, lambda: self.now)

    def look(self, count: int = 300, **shift: float) -> Window:
        self.number += 1
        shift = {"slow": self.slow, **shift}
        logs.write(self.place.store.folder, logs.traffic(count, self.now, LENGTH, self.number, self.version, **shift))
        self.now += LENGTH
        world = World(self.setting, ("3", "4"), self.hand, lambda _, text: self.sent.append(text) is None)
        return self.watching.look(world, watch_s=0.01)

    def busy_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        crowd = Machine(cores=2, cpu_share=0.5, others_share=0.5, crowded=(0,))
        monkeypatch.setattr("monitoring.machine.watch", lambda *_, **__: crowd)


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path)


@pytest.fixture
def compared(tmp_path: Path) -> Course:
    """The same with windows that are compared with the first."""
    return Course(tmp_path, drift=Drift(fewest=100))


def test_ordinary_traffic_raises_nothing_and_the_first_window_is_the_reference(compared: Course) -> None:
    made = [compared.look() for _ in range(6)]
    assert [one.drift for one in made] == ["none"] * 6
    assert "is the reference from now on" in made[0].why
    assert all(one.rows > 250 for one in made)
    assert (compared.watching.state.alerts, compared.sent, compared.hand.did) == ((), [], [])


def test_memory_is_that_of_the_version_that_a_window_tells_of(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    own, takes = psutil.Process(), {"3": 400.0, "4": 700.0}
    for name, version in zip(("blue", "green"), takes, strict=True):
        (course.place.store.folder / name).mkdir(parents=True)
        Address(
            pid=own.pid, created=own.create_time(), host="127.0.0.1", port=1, name="m", version=version,
            manifest_sha256="",
        ).write(course.place.store.folder / name / "address.json")  # fmt: skip

    def looked(addresses: list[Address], *_: object) -> Machine:
        return Machine(cores=2, memory_mb=takes[addresses[0].version])

    monkeypatch.setattr("monitoring.machine.watch", looked)
    made = []
    for course.version in ("3", "4", "3"):  # in a ramp the challenger answers most before it is the champion
        window = course.look()
        made.append((window.version, window.figures["memory_mb"].value))
    assert made == [("3", 400.0), ("4", 700.0), ("3", 400.0)]
    quiet = course.look(0)  # a window without requests tells of the champion
    assert (quiet.rows, quiet.version, quiet.figures["memory_mb"].value) == (0, "3", 400.0)


def test_a_slow_server_is_diagnosed_repaired_and_told_of(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(4):
        course.look()
    course.busy_machine(monkeypatch)

    def effect(what: str, step: Step) -> None:
        course.slow = 1.0 if (what, step) == ("apply", "cores") else course.slow

    course.hand.effect, course.slow = effect, 4.0
    course.look()
    assert course.hand.did == ["apply cores"]
    course.look()
    assert course.hand.did == ["apply cores", "keep cores"]
    assert course.watching.state.repair is None
    assert [entry.outcome for entry in course.watching.state.shown] == ["applied", "kept"]
    assert "FIRES [page] slow" in course.sent[0]
    assert "cores is tried" in course.sent[0]
    assert any("over" in text for text in course.sent[1:])


def test_a_server_too_slow_to_answer_many_is_found_by_its_few_answers(course: Course) -> None:
    for _ in range(4):
        course.look(20)
    made = [course.look(3, slow=6.0) for _ in range(6)]
    assert made[-1].figures["inter_token_p50_ms"].count > 12
    assert "FIRES [page] slow" in course.sent[0]


def test_steps_that_do_not_help_are_undone_and_a_person_is_called_with_the_history(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        course.look()
    course.busy_machine(monkeypatch)
    course.slow, course.hand.cannot = 4.0, {"threads"}
    for _ in range(6):
        course.look()
        if course.watching.state.repaired:
            break
    assert course.hand.did == ["apply cores", "undo cores", "apply smaller", "undo smaller"]
    last = course.watching.state.shown[-1]
    assert (last.step, last.outcome) == ("person", "called")
    assert "threads: impossible (threads cannot be done here)" in last.said
    assert any("A person is needed" in text for text in course.sent)


@pytest.mark.parametrize(
    ("repair", "outcome"),
    [({"enabled": False}, "not repaired"), ({"dry_run": True}, "dry run"), ({"per_day": 0}, "not repaired")],
)
def test_switched_off_dry_or_out_of_budget_nothing_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repair: dict[str, Any], outcome: str
) -> None:
    course = Course(tmp_path, repair=Repair.model_validate(repair))
    for _ in range(4):
        course.look()
    course.busy_machine(monkeypatch)
    course.slow = 4.0
    course.look()
    course.look()
    assert course.hand.did == []
    assert [entry.outcome for entry in course.watching.state.shown] == [outcome]


@pytest.mark.parametrize("done", [True, False])
def test_a_monitor_that_was_killed_goes_on_and_does_nothing_twice(
    course: Course, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    for _ in range(4):
        course.look()
    course.busy_machine(monkeypatch)

    def killed(what: str, step: Step) -> None:
        raise KeyboardInterrupt

    course.slow, course.hand.effect = 4.0, killed
    with pytest.raises(KeyboardInterrupt):
        course.look()
    assert course.watching.state.repair is not None
    course.watching = Watch(course.place, course.settings, lambda: course.now)
    course.hand.effect = lambda what, step: None
    if done:
        course.hand.serves = "version 3 with cores 1"
    course.look()
    assert course.hand.did == ["apply cores"] * (1 if done else 2)
    assert course.watching.state.repair is not None
    assert course.watching.state.repair.phase == "observe"
    assert ("begun before this monitor was" in course.watching.state.repair.done) is done


def test_other_prompts_start_an_optimization_that_is_waited_for(compared: Course) -> None:
    for _ in range(3):
        compared.look()
    compared.hand.effect = lambda what, step: setattr(compared.hand, "at", "the optimization runs")
    assert compared.look(rarity=2.0, content=1.0).drift == "drift"
    assert compared.hand.did == ["apply reoptimize"]
    for _ in range(3):
        compared.look(rarity=2.0, content=1.0)
    assert compared.hand.did == ["apply reoptimize"]
    compared.hand.at = ""
    compared.look()
    compared.look()
    assert compared.watching.state.repair is None
    assert [entry.outcome for entry in compared.watching.state.shown] == ["applied", "kept"]


@pytest.mark.parametrize(("phase", "verdicts"), [("ramp", ["none"] * 3), ("staging", ["inconclusive"] * 3)])
def test_what_callers_ask_now_is_ordinary_to_a_version_that_took_over_by_a_ramp_and_to_no_other(
    compared: Course, phase: Phase, verdicts: list[str]
) -> None:
    other = {"rarity": 2.0, "content": 1.0}
    for _ in range(3):
        compared.look()
    assert compared.look(**other).drift == "drift"
    moved = Transition(
        when=datetime.fromtimestamp(compared.now + 1, UTC).isoformat(), who="monitor", model="m", before=phase,
        after="promote", share=100.0, champion="3", challenger="4", why="", evidence={},
    )  # fmt: skip
    ledger.append(compared.place.transitions, moved)
    compared.version = "4"
    made = [compared.look(**other) for _ in range(3)]
    assert [one.drift for one in made] == verdicts
    fires = [alert.name for alert in compared.watching.state.alerts]
    assert fires == ([] if phase == "ramp" else ["drift"])
    if phase == "ramp":
        assert compared.look().drift == "drift"  # those of before are the others now


def test_right_answers_that_become_fewer_are_drift_also_where_labels_begin_late(compared: Course) -> None:
    def judged(share: float) -> Window:
        lines = [
            Judgement(request_id=f"req-{compared.number + 1}-{place}", right=float(place % 20 < 20 * share))
            for place in range(300)
        ]
        with (compared.place.store.folder / JUDGEMENTS).open("a") as stream:
            stream.writelines(one.model_dump_json() + "\n" for one in lines)
        return compared.look()

    assert compared.look().drift == "none"
    assert [judged(0.9).drift for _ in range(3)] == ["none"] * 3
    wrong = judged(0.3)
    assert (wrong.drift, [one.name for one in wrong.signals if one.drifted]) == ("drift", ["right answers"])
    assert wrong.figures["accuracy"].value == pytest.approx(0.3, abs=0.05)


def test_small_windows_wait_until_there_is_enough_to_compare(compared: Course) -> None:
    compared.look()
    made = [compared.look(40, rarity=2.0, content=1.0) for _ in range(3)]
    assert [one.drift for one in made] == ["inconclusive", "inconclusive", "drift"]


def test_a_missing_log_is_told_and_over_when_it_is_back(course: Course) -> None:
    course.look()
    assert course.look(0).rows == 0
    assert "FIRES [warn] silence" in course.sent[0]
    course.look()
    assert "over" in course.sent[1]


def test_what_is_broken_on_the_disk_is_put_aside_and_named(compared: Course) -> None:
    compared.look()
    (compared.place.folder / "state.json").write_text("{")
    next(iter((compared.place.folder / "reference").glob("*.parquet"))).write_bytes(b"no parquet")
    compared.watching = Watch(compared.place, compared.settings, lambda: compared.now)
    assert compared.watching.state.number == 0
    compared.number = 0
    assert "is the reference from now on" in compared.look().why
    assert (compared.place.folder / "state.unreadable.json").exists()


def test_a_clock_before_the_last_window_is_an_error_with_what_to_do(course: Course) -> None:
    course.look()
    course.now -= 5 * LENGTH
    with pytest.raises(DataError, match="set it right"):
        course.look()


def test_one_monitor_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(ResourceError, match="at work already"), held(tmp_path):
        pass


def test_a_hand_that_fails_while_undoing_does_not_stop_the_watch(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        course.look()
    course.busy_machine(monkeypatch)

    def refuse(step: Step, why: str) -> str:
        raise EdgewrightError("the router is gone")

    monkeypatch.setattr(course.hand, "undo", refuse)
    course.slow = 4.0
    for _ in range(3):
        course.look()
    assert any("could not be taken back" in entry.said for entry in course.watching.state.shown)


def test_the_week_in_review_has_versions_incidents_and_missed_looks(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        course.look()
    course.busy_machine(monkeypatch)
    course.slow = 4.0
    course.look()
    file = course.place.folder / WINDOWS
    file.write_bytes(file.read_bytes() + b'{"number": 9, "began"')  # torn
    seen = weekly.windows(file, 0.0)
    assert len(seen) == 5
    late = seen[-1].model_copy(update={"began": seen[-1].ended, "ended": seen[-1].ended + 9 * LENGTH})
    text = weekly.review([*seen, late], weekly.repairs(course.place.book, 0.0), [], LENGTH, course.now)
    assert "| 3 | 6 |" in text
    assert "slow (version 3): cores applied" in text
    assert text.count(" to 20") == 1


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_takes_a_window_by_its_flow_and_shows_it(tmp_path: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["monitor"]["window_s"] = 3600.0
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    logs.write(tmp_path / "artifacts" / "serve", logs.traffic(200, time.time() - 1800, 1700.0))
    done = pipelines.command(tmp_path, "flows.monitor", "--url", "http://127.0.0.1:9")
    assert done.returncode == 0, done.stdout
    assert "window 1: 200 requests" in done.stdout
    shown = pipelines.command(tmp_path, "flows.monitor", "--show")
    assert "is the reference from now on" in shown.stdout
    assert (tmp_path / "artifacts" / "monitor" / "evidently").is_dir() is False  # nothing was compared yet
    assert (tmp_path / "artifacts" / "monitor" / WINDOWS).read_text().count("\n") == 1
    review = pipelines.command(tmp_path, "flows.weekly").stdout.strip().splitlines()[-1]
    assert "1 windows, 200 requests" in (tmp_path / review).read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--every", "0"), "must be above 0"), (("--every", "soon"), "invalid float")],
)
def test_a_wrong_word_is_named(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = command.main(list(words))
    except SystemExit as ended:  # argparse's own
        code = int(str(ended.code))
    assert code == 2
    assert said in capsys.readouterr().err


def test_a_monitor_that_runs_keeps_another_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    with held(tmp_path / "artifacts" / "monitor"):
        assert command.main([]) == 2


def test_a_look_gives_way_to_the_server_and_never_comes_back_up() -> None:
    told = (
        "import os; from flows.monitoring import give_way; give_way(); give_way(); print(os.nice(5)); "
        "give_way(); print(os.nice(0))"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    first, last = (int(line) for line in done.stdout.split()[-2:])
    assert first >= 15
    assert last == first
