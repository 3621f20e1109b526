"""Sequential looks: what is still open, for one target and for several."""

from __future__ import annotations

import pytest

from tasks.measure.looks import Limit, undecided
from tasks.measure.session import leaves_open
from tasks.records.base import Estimate
from tests import factories as make

FOUND = {"retention": Estimate(value=0.95, low=0.93, high=0.97), "mean_kl": Estimate(value=0.1, low=0.08, high=0.12)}


def at_least(minimum: float, target: str = "") -> Limit:
    return Limit(metric="retention", minimum=minimum, target=target)


def at_most(maximum: float, target: str = "") -> Limit:
    return Limit(metric="mean_kl", maximum=maximum, target=target)


@pytest.mark.parametrize(("limits", "left"), [
    ([at_least(0.9), at_most(0.2)], ()),
    ([at_least(0.95), at_most(0.1)], ("retention", "mean_kl")),
    ([at_least(0.95), at_most(0.05)], ()),  # it has failed already
    ([at_least(0.95, "a"), at_most(0.05, "a"), at_least(0.9, "b")], ()),
    ([at_least(0.95, "a"), at_most(0.05, "b")], ("retention",)),  # it has failed for b, and may pass for a
    ([at_least(0.95, "a"), at_least(0.9, "b")], ("retention",)),
    ([at_least(0.9, "a"), at_least(0.95, "b")], ("retention",)),
    ([at_least(0.95, "a"), at_least(0.94, "b")], ("retention",)),
])  # fmt: skip
def test_what_is_open_for_any_target_that_may_still_pass(limits: list[Limit], left: tuple[str, ...]) -> None:
    assert undecided(limits, FOUND, 40, 0.95) == left


@pytest.mark.parametrize(("minima", "open_"), [
    ([], False), ([{"decode": 2.0}], True), ([{"decode": 1.0}, {"decode": 2.0}], True),
    ([{"decode": 1.0}, {"decode": 9.0}], False), ([{"decode": 9.0, "prefill": 2.0}, {"prefill": 2.0}], True),
])  # fmt: skip
def test_timing_goes_on_while_a_gate_of_any_target_is_open(minima: list[dict[str, float]], open_: bool) -> None:
    assert leaves_open({"decode": make.paired(2.0), "prefill": make.paired(2.0)}, minima) is open_
