"""One look after another: windows, alerts, and what is left on the disk."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from monitoring.collect.windows import Machine
from monitoring.watch import Watch, World, held
from tasks.errors import DataError, ResourceError
from tasks.params.watching import Rule
from tasks.serve.address import Address
from tests.monitoring.course import LENGTH, Course


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

    monkeypatch.setattr("monitoring.collect.machine.watch", looked)
    made = []
    for course.version in ("3", "4", "3"):  # in a ramp the challenger answers most before it is the champion
        window = course.look()
        made.append((window.version, window.figures["memory_mb"].value))
    assert made == [("3", 400.0), ("4", 700.0), ("3", 400.0)]
    quiet = course.look(0)  # a window without requests tells of the champion
    assert (quiet.rows, quiet.version, quiet.figures["memory_mb"].value) == (0, "3", 400.0)


def test_a_server_too_slow_to_answer_many_is_found_by_its_few_answers(course: Course) -> None:
    for _ in range(4):
        course.look(20)
    made = [course.look(3, slow=6.0) for _ in range(6)]
    assert made[-1].figures["inter_token_p50_ms"].count > 12
    assert "FIRES [page] slow" in course.sent[0]


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


def test_where_nothing_was_ever_served_nobody_is_paged(tmp_path: Path) -> None:
    rules = {"not-ready": Rule(metric="ready", below=1.0, severity="page", runbook="look")}
    course = Course(tmp_path, rules=rules)
    course.place = course.place._replace(url="http://127.0.0.1:9")
    course.watching = Watch(course.place, course.settings, lambda: course.now)
    for _ in range(3):
        course.now += LENGTH
        window = course.watching.look(World(course.setting, send=lambda _, text: course.sent.append(text) is None))
        assert window.figures["ready"].value is None
    assert course.sent == []
    course.look()  # somebody asked: now it is missed
    assert course.look().figures["ready"].value == 0.0 and "FIRES [page] not-ready" in course.sent[0]
