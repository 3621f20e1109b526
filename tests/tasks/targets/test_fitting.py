"""What would keep a budget: sizes add up, what was measured comes first, nothing is promised that cannot be told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.records.bundles import Part
from tasks.targets.fitting import Candidate, Exceeding, changes, fewer_bits, fewer_layers, fewer_words
from tests.factories import profile


def exceeding(weights: float = 60.0, embedding: float = 15.0, rest: float = 4.0, budget: float = 50.0) -> Exceeding:
    sizes = (("weights", weights), ("embedding", embedding), ("metadata", rest))
    parts = tuple(
        Part(component=name, name=name, download_bytes=round(mb * 1e6), installed_bytes=round(mb * 1e6))  # type: ignore[arg-type]
        for name, mb in sizes
    )
    return Exceeding(parts, budget, 4.5, 0.1, profile(layers=30, vocabulary=49152))


def test_a_measured_variant_that_passed_comes_first() -> None:
    some = [
        Candidate("small", 20.0, "fail", "KL 0.9"),
        Candidate("fits", 45.0, "pass", "KL 0.1"),
        Candidate("too-large", 47.0, "pass", "KL 0.0"),
    ]
    found = changes(exceeding(), some)
    assert [one.what for one in found] == ["the variant fits (pass)", "the variant small (fail)", found[2].what]
    assert [one.measured for one in found] == [True, True, False]
    assert found[0].size_mb == 49.0


def test_three_ways_are_planned_where_nothing_measured_fits() -> None:
    found = changes(exceeding(weights=45.0, embedding=45.0, budget=65.0), [])
    assert len(found) == 3
    assert "3.0 bits" in found[0].what
    assert "predicted from 0.1" in found[0].quality
    assert all(not one.measured and one.size_mb <= 65.0 for one in found)


def test_nothing_is_promised_where_the_rest_alone_exceeds_the_budget() -> None:
    assert changes(exceeding(rest=60.0), [Candidate("tiny", 1.0, "pass", "")]) == ()


def test_what_is_too_much_alone_is_planned_with_fewer_bits() -> None:
    """A third of the size is asked for, which neither layers nor words give alone."""
    known = exceeding(weights=113.0, embedding=30.0, rest=1.6, budget=50.0)
    found = changes(Exceeding(known.parts, 50.0, 8.5, 0.002, known.profile), [])
    assert [one.what for one in found] == [
        "2.8 bits a weight on average, scales included, in place of 8.5",
        "15 of 30 layers and 4.7 bits a weight in place of 8.5",
        "a vocabulary of 24,576 of 49,152 pieces and 3.2 bits a weight in place of 8.5",
    ]
    assert all(one.size_mb <= 50.0 for one in found)
    assert "trained again" in found[1].quality
    assert "predicted from 0.002" in found[1].quality


@given(
    st.floats(10, 500), st.floats(1, 200), st.floats(0.1, 30), st.floats(31, 400),
)  # fmt: skip
def test_what_is_planned_keeps_the_budget(weights: float, embedding: float, rest: float, budget: float) -> None:
    found = exceeding(weights, embedding, rest, budget)
    if found.weights_mb + found.rest_mb <= budget:
        return
    for plan in (fewer_bits, fewer_layers, fewer_words):
        one = plan(found)
        assert one is None or one.size_mb <= budget + 0.06


def test_a_divergence_grows_fourfold_with_each_bit_less() -> None:
    found = fewer_bits(exceeding(weights=60.0, embedding=0.0, rest=0.0, budget=60.0 * 3.5 / 4.5 + 0.1))
    assert found is not None
    assert "3.5 bits" in found.what
    assert "0.4 nats" in found.quality


def test_without_a_known_divergence_none_is_predicted() -> None:
    known = exceeding()
    one = fewer_bits(Exceeding(known.parts, known.budget_mb, known.bits, None, known.profile))
    assert one is not None
    assert "not predicted" in one.quality


@pytest.mark.parametrize("plan", [fewer_layers, fewer_words])
def test_a_model_without_such_parts_has_no_such_plan(plan: Callable[[Exceeding], object]) -> None:
    known = exceeding(embedding=0.0)
    assert plan(Exceeding(known.parts, known.budget_mb, known.bits, None, profile(layers=0, vocabulary=0))) is None
