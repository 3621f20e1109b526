"""The review of a week."""

from __future__ import annotations

import pytest

from monitoring.collect.place import WINDOWS
from monitoring.show import weekly
from tests.monitoring.course import LENGTH, Course


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
