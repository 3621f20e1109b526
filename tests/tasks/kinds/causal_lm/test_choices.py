"""Choosing and answering: what counts as right, what differs from the reference, and when enough was scored."""

from __future__ import annotations

import doctest
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tasks.kinds.causal_lm import answers
from tasks.kinds.causal_lm.answers import Answer, Answers, answer, beside
from tasks.kinds.causal_lm.choices import Chosen, TaskAccuracy, choose, compare_choices
from tasks.kinds.causal_lm.figures import figures
from tasks.kinds.causal_lm.quality import Quality, Tokens, summarise
from tasks.kinds.causal_lm.tasks import ChoiceItem, OpenItem
from tasks.measure import looks
from tasks.measure.looks import Limit, undecided
from tasks.measure.statistics import levels_of_looks, mcnemar_mid_p, norm_bound, paired_retention, trend


def test_doctests() -> None:
    assert doctest.testmod(looks).failed == 0
    assert doctest.testmod(answers).failed == 0


class Counting:
    """A session that thinks each token the likelier the nearer it is to the one before, plus one."""

    def score_after(
        self, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[np.ndarray]]:
        assert len({len(prompt) for prompt in prompts}) == len({len(own) for own in endings}) == 1

        def logits(before: int) -> np.ndarray:
            return -np.abs(np.arange(20) - before - 1).astype(np.float32)

        return [
            [np.stack([logits(token) for token in [prompt[-1], *ending[:-1]]]) for ending in own]
            for prompt, own in zip(prompts, endings, strict=True)
        ]

    def generate(self, ids: Sequence[int], new_tokens: int) -> list[int]:
        return [ids[-1] + 1 + i for i in range(new_tokens)]


def test_the_likeliest_continuation_is_chosen_whatever_its_length() -> None:
    items = [
        ChoiceItem(prompt=(1, 2), choices=((3, 4, 5), (9,), (3, 9)), answer=0),
        ChoiceItem(prompt=(1, 2), choices=((9, 10), (3,)), answer=0),
    ]
    chosen = choose(Counting(), items)  # type: ignore[arg-type]
    assert chosen.right.tolist() == [True, False]
    assert np.isneginf(chosen.likelihood[1, 2])  # the second item has two continuations only


def test_choices_are_stored_and_joined(tmp_path) -> None:
    one = Chosen(np.array([[-1.0, -2.0]]), np.array([0], dtype=np.int32))
    other = Chosen(np.array([[-3.0, -2.0, -1.0]]), np.array([1], dtype=np.int32))
    both = one.joined(other)
    both.save(tmp_path / "c.npz")
    read = Chosen.load(tmp_path / "c.npz")
    assert read.right.tolist() == [True, False]
    assert read.first(1).right.tolist() == [True]
    empty = choose(Counting(), ())  # type: ignore[arg-type]
    assert empty.joined(one).right.tolist() == [True]


def chosen(right: list[bool]) -> Chosen:
    return Chosen(np.array([[1.0, 0.0] if yes else [0.0, 1.0] for yes in right]), np.zeros(len(right), dtype=np.int32))


def test_flips_in_both_directions_are_told() -> None:
    ours, theirs = [True] * 80 + [False] * 8 + [True] * 2 + [False] * 10, [True] * 88 + [False] * 12
    found = compare_choices(chosen(ours), chosen(theirs))
    assert (found.flips_lost, found.flips_gained, found.choices) == (8, 2, 100)
    assert found.task_retention == pytest.approx(82 / 88)
    assert found.task_retention_low < 82 / 88 < found.task_retention_high
    assert 0.05 < found.mcnemar_p < 0.15


def test_other_items_and_none_are_refused() -> None:
    with pytest.raises(ValueError, match="same items"):
        compare_choices(chosen([True]), chosen([True, False]))
    with pytest.raises(ValueError, match="same items"):
        compare_choices(chosen([]), chosen([]))


@given(st.integers(0, 40), st.integers(0, 40))
def test_mid_p_lies_below_the_exact_test_and_is_symmetric(lost: int, gained: int) -> None:
    mid = mcnemar_mid_p(lost, gained)
    assert mid == mcnemar_mid_p(gained, lost)
    exact = binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    assert 0 < mid <= exact + 1e-12


def test_the_interval_of_the_retention_covers_as_often_as_it_says() -> None:
    dice, covered, runs = np.random.default_rng(5), 0, 400
    for seed in range(runs):
        theirs = dice.random(200) < 0.9
        ours = np.where(theirs, dice.random(200) < 0.95, dice.random(200) < 0.3)
        interval = paired_retention(ours, theirs, seed=seed)
        truth = (0.9 * 0.95 + 0.1 * 0.3) / 0.9
        covered += interval is not None and interval.low <= truth <= interval.high
    assert 0.92 <= covered / runs <= 0.98


def test_no_flips_at_all_still_leave_an_interval() -> None:
    same = np.ones(200, dtype=bool)
    interval = paired_retention(same, same)
    assert interval is not None and 0.98 < interval.low < 1 < interval.high
    assert paired_retention(same[:1], same[:1]) is None
    assert paired_retention(same, ~same) is None  # a reference that is never right


@pytest.mark.parametrize("shares", [[0.5, 1.0], [2 / 3, 1.0], [0.25, 0.5, 0.75, 1.0]])
def test_looking_more_than_once_errs_no_more_often(shares: list[float]) -> None:
    """Random walks without an effect: the share that ever leaves the bounds is what was allowed."""
    dice, paths = np.random.default_rng(2), 40_000
    steps = np.diff([0.0, *shares])
    walk = np.cumsum(dice.normal(size=(paths, len(shares))) * np.sqrt(steps), axis=1)
    bounds = np.array([norm_bound(level) for level in levels_of_looks(shares)]) * np.sqrt(shares)
    assert (np.abs(walk) > bounds).any(axis=1).mean() == pytest.approx(0.05, abs=0.004)


def quality(lost: float, rows: int = 40):
    """Figures of a variant that loses a share of the right tokens, and nothing else."""
    dice, length = np.random.default_rng(1), 100
    row = np.repeat(np.arange(rows, dtype=np.int32), length)
    right = dice.random(rows * length) < 0.5
    still = right & (dice.random(rows * length) >= lost)
    one = np.full(rows * length, 2.0)
    reference = Tokens(row, one, right, np.ones_like(right), np.zeros(rows * length))
    return summarise(Tokens(row, one, still, right == still, np.full(rows * length, 0.01)), reference)


def open_under(limits: Sequence[Limit], found: Quality, accuracy: TaskAccuracy | None) -> tuple[str, ...]:
    return undecided(limits, figures(found, accuracy), found.rows, 0.95)


LIMITS = (Limit(metric="retention", minimum=0.95), Limit(metric="perplexity_ratio", maximum=1.1))


@pytest.mark.parametrize(("lost", "open_"), [(0.0, ()), (0.05, ("retention",)), (0.2, ())])
def test_more_is_scored_only_where_it_can_decide(lost: float, open_: tuple[str, ...]) -> None:
    assert open_under(LIMITS, quality(lost), None) == open_


def test_one_broken_limit_ends_the_matter() -> None:
    broken = (*LIMITS, Limit(metric="mean_kl", maximum=0.001))
    assert open_under(broken, quality(0.05), None) == ()


def test_choices_leave_open_what_their_interval_holds() -> None:
    limit = (Limit(metric="task_retention", minimum=0.9),)
    few = compare_choices(chosen([True] * 16 + [False] * 4), chosen([True] * 18 + [False] * 2))
    assert open_under(limit, quality(0.0), few) == ("task_retention",)
    assert open_under(limit, quality(0.0), None) == ()


def test_answers_are_compared_with_the_references_and_with_the_users() -> None:
    items = [OpenItem(text="a", prompt=(1,), expected="2 3"), OpenItem(text="b", prompt=(5,))]

    def decode(ids: list[int]) -> str:
        return " ".join(map(str, ids))

    ours = answer(Counting(), items, 2, decode)  # type: ignore[arg-type]
    reference = Answers(answers=(Answer(prompt="a", text="", ids=(2, 9)), Answer(prompt="c", text="", ids=(1,))))
    found = beside(ours, reference)
    assert [one.similarity for one in found.answers] == [0.5, None]
    assert (found.similarity, found.similarity_expected) == (0.5, 1.0)
    assert Answers().similarity is None


def test_a_drift_is_told_from_noise() -> None:
    dice = np.random.default_rng(3)
    flat, rising = dice.normal(100, 5, size=60), dice.normal(100, 5, size=60) + np.linspace(0, 40, 60)
    steady, drift = trend(flat.tolist()), trend(rising.tolist())
    assert steady is not None and drift is not None
    assert steady.low < 0 < steady.high and steady.p > 0.05
    assert 0.2 < drift.low < drift.value < drift.high < 0.5 and drift.p < 0.001
    assert trend([1.0] * 9) is None
    long = 10 + np.random.default_rng(3).normal(size=60_000)
    even, grown = trend(long.tolist()), trend((long + np.linspace(0, 1, len(long))).tolist())
    assert even is not None and even.low <= 0 <= even.high
    assert grown is not None and grown.low == pytest.approx(0.095, abs=0.02) and grown.p < 1e-6
    assert trend([5.0] * 20) is not None and trend([5.0] * 20).value == 0.0
