"""Drift: found where it is, not where it is not, named where nothing can be compared."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from monitoring.collect import rows
from monitoring.judge import drift
from tasks.params.watching import Drift
from tests import logs

T0 = 1_790_000_000.0
SETTINGS = Drift(min_requests=100)


def table(folder: Path, count: int, seed: int, **shift: float) -> pd.DataFrame:
    logs.write(folder / str(seed), logs.traffic(count, T0, 10.0, seed, **shift))
    return rows.read([folder / str(seed)], T0, T0 + 20).table


@pytest.mark.parametrize(
    ("shift", "expected", "moved"),
    [
        ({}, "none", set()),
        ({"rarity": 2.0}, "watch", {"vocabulary of prompts"}),
        ({"rarity": 2.0, "content": 1.0}, "drift", {"vocabulary of prompts", "content of prompts"}),
        ({"confidence": -2.0}, "drift", {"confidence"}),
        ({"slow": 3.0}, "none", set()),  # latency is another alert's
    ],
)
def test_what_has_moved_is_named(tmp_path: Path, shift: dict[str, float], expected: str, moved: set[str]) -> None:
    reference, current = table(tmp_path, 1000, 0), table(tmp_path, 400, 1, **shift)
    signals = drift.compare(reference, current, SETTINGS)
    assert {signal.name for signal in signals if signal.drifted} == moved
    assert drift.verdict(signals, 400, SETTINGS.min_requests)[0] == expected


@pytest.mark.parametrize(("tokens", "drifted"), [(20, False), (21, False), (19, False), (40, True)])
def test_a_constant_reference_makes_no_alarm_of_one_token(tmp_path: Path, tokens: int, drifted: bool) -> None:
    reference = table(tmp_path, 1000, 0).assign(prompt_tokens=20, new_tokens=16)
    current = table(tmp_path, 400, 1).assign(prompt_tokens=tokens, new_tokens=16)
    found = {one.name: one for one in drift.compare(reference, current, SETTINGS)}
    length = found["length of prompts"]
    assert length.drifted == drifted, length
    assert not found["length of answers"].drifted and found["length of answers"].effect == 0


def test_what_is_drawn_is_what_was_compared(tmp_path: Path) -> None:
    reference, current = table(tmp_path, 1000, 0), table(tmp_path, 400, 1, rarity=0.4, confidence=-1.0)
    current.loc[current.index[:5], "confidence"] = [float("nan"), float("inf"), *([float("nan")] * 3)]
    effects = {signal.name: signal.effect for signal in drift.compare(reference, current, SETTINGS)}
    snapshot = drift.drawn(reference, current)
    shown = {one["config"]["column"]: round(float(one["value"]), 4) for one in snapshot.dict()["metrics"]}
    titles = {name: title for name, (_, title) in (drift.NUMERIC | drift.CATEGORIES).items()}
    assert {titles[name]: value for name, value in shown.items() if name in titles} == {
        title: effects[title] for title in titles.values()
    }
    drift.Workspace(tmp_path / "evidently", "Edgewright").add(snapshot)
    assert len(list((tmp_path / "evidently").rglob("*"))) > 1


def test_a_reference_without_a_column_is_named_and_the_others_are_compared(tmp_path: Path) -> None:
    reference = table(tmp_path, 500, 0).drop(columns=["confidence"])
    current = table(tmp_path, 300, 1, rarity=2.0, content=1.0).assign(finish=pd.NA)
    signals = drift.compare(reference, current, SETTINGS)
    notes = {signal.name: signal.note for signal in signals if signal.effect is None}
    assert notes == {
        "confidence": "the reference has no such values", "how answers end": "the window has no such values",
    }  # fmt: skip
    assert drift.verdict(signals, 300, SETTINGS.min_requests)[0] == "drift"


def test_nothing_in_common_is_inconclusive(tmp_path: Path) -> None:
    other, current = pd.DataFrame({"other": [1, 2]}), table(tmp_path, 200, 0)
    assert drift.drawn(other, current) is None
    assert drift.verdict(drift.compare(other, current, SETTINGS), 200, SETTINGS.min_requests)[0] == "inconclusive"


@pytest.mark.parametrize(
    ("reference", "current", "drifted"),
    [((900, 1000), (80, 120), True), ((900, 1000), (8, 10), False), ((900, 1000), (117, 120), False)],
)
def test_right_answers_become_fewer_only_beyond_doubt(
    reference: tuple[int, int], current: tuple[int, int], drifted: bool
) -> None:
    assert drift.accuracy(reference, current, SETTINGS).drifted is drifted


def test_without_judgements_accuracy_says_so() -> None:
    assert drift.accuracy((0, 0), (5, 9), SETTINGS).note == "no answers were judged by callers"
