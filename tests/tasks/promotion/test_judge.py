"""The canary's judge: what it calls pass, fail and inconclusive, and how often it is wrong."""

from __future__ import annotations

import random

import pytest

from tasks.promotion.judge import Arm, Margins, breach, judge

MARGINS = Margins()


def arm(
    n: int, errors: int = 0, ms: float = 100.0, confidence: float = 1.0, seed: int = 0, agreement: float = 0.7
) -> Arm:
    dice = random.Random(seed)
    return Arm(
        requests=n, errors=errors,
        first_ms=[ms * dice.lognormvariate(0, 0.3) for _ in range(n - errors)],
        between_ms=[ms / 10 * dice.lognormvariate(0, 0.2) for _ in range(n - errors)],
        confidence=[confidence * dice.lognormvariate(0, 0.3) for _ in range(n // 4)],
        agreement=[min(1.0, max(0.0, dice.gauss(agreement, 0.2))) for _ in range(n // 4)],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("canary", "outcome", "measure"),
    [
        (arm(200, seed=1), "pass", None),
        (arm(200, errors=40, seed=1), "fail", "errors"),
        (arm(200, ms=180.0, seed=1), "fail", "first token"),
        (arm(200, confidence=0.5, seed=1), "fail", "confidence"),
        (arm(200, confidence=0.8, seed=1), "inconclusive", None),
        (arm(200, agreement=0.1, seed=1), "fail", "agreement"),
        (arm(200, agreement=0.3, seed=1), "inconclusive", None),
        (arm(200, ms=125.0, seed=1), "inconclusive", None),
        (arm(20, seed=1), "inconclusive", None),
        (arm(20, errors=12, seed=1), "fail", "errors"),  # nobody waits for the fiftieth
        (arm(0, seed=1), "inconclusive", None),
    ],
)
def test_verdicts(canary: Arm, outcome: str, measure: str | None) -> None:
    found = judge(arm(200, seed=2), canary, MARGINS)
    assert found.outcome == outcome, found.reasons
    assert measure is None or found.measures[measure] == "fail"


def test_equals_are_hardly_ever_failed_and_a_slow_one_always() -> None:
    equal = [judge(arm(100, seed=i), arm(100, seed=1000 + i), MARGINS, looks=5).outcome for i in range(200)]
    assert equal.count("fail") == 0
    slow = [judge(arm(100, seed=i), arm(100, ms=200, seed=1000 + i), MARGINS, looks=5).outcome for i in range(50)]
    assert slow.count("fail") == 50


def test_a_breach_is_not_waited_for() -> None:
    well = Arm(50, 0, [10.0 + i % 7 for i in range(50)], [1.0 + i % 3 / 10 for i in range(50)], [1.0] * 50, [0.9] * 50)
    few = 12
    cases = {
        "errors": Arm(few, 6),
        "first token": Arm(few, 0, [90.0 + i for i in range(few)], [1.0] * few, [1.0] * few, [0.9] * few),
        "agreement": Arm(few, 0, [10.0] * few, [1.0] * few, [1.0] * few, [0.01 * (i % 2) for i in range(few)]),
        "confidence": Arm(few, 0, [10.0] * few, [1.0] * few, [0.2 + i / 100 for i in range(few)], [0.9] * few),
    }
    assert breach(well, well, Margins()) is None
    for name, arm in cases.items():
        found = breach(well, arm, Margins())
        assert found is not None and found.measures[name] == "fail", name
    assert breach(well, Arm(5, 5), Margins()) is None  # too few to tell anything
