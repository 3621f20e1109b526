"""What each version's windows are compared with."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from monitoring.collect.windows import Window
from tasks.promotion.rollout import Phase
from tasks.promotion.store import Transition
from tasks.records import lines
from tasks.serve.log.prediction_log import JUDGEMENTS, Judgement
from tests.monitoring.course import Course


def test_ordinary_traffic_raises_nothing_and_the_first_window_is_the_reference(compared: Course) -> None:
    made = [compared.look() for _ in range(6)]
    assert [one.drift for one in made] == ["none"] * 6
    assert "is the reference from now on" in made[0].why
    assert all(one.rows > 250 for one in made)
    assert (compared.watching.state.alerts, compared.sent, compared.actuator.did) == ((), [], [])


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
    lines.append(compared.place.transitions, moved)
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
