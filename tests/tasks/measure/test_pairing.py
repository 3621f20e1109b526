"""Timing in turns: the order of blocks, what drift does to a comparison, and how often equals are called different."""

from __future__ import annotations

import doctest
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.measure import pairing
from tasks.measure.pairing import Block, beyond, noise_floor, schedule, speedup

DECODE, FIRST = "decode_tokens_per_s", "time_to_first_token_ms"
RISING, FALLING = (DECODE, True), (FIRST, False)


def test_doctests() -> None:
    assert doctest.testmod(pairing).failed == 0


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 6), st.integers(0, 99), st.booleans())
def test_every_variant_has_its_blocks_between_two_of_the_reference(
    count: int, rounds: int, every: int, seed: int, backwards: bool
) -> None:
    others = [f"v{i}" for i in range(count)]
    order = schedule("ref", others, rounds, every, seed, backwards)
    assert all(order.count(name) == rounds for name in others)
    assert order[0] == order[-1] == "ref"
    gaps = "".join("r" if name == "ref" else "." for name in order).split("r")
    assert max(len(gap) for gap in gaps) <= every
    assert order == schedule("ref", others, rounds, every, seed, not backwards)[::-1]


def test_the_reference_alone_is_compared_with_itself() -> None:
    assert schedule("ref", [], 3, 5, 1, False) == ["ref"] * 4


def sessions(others: list[str], rounds: int, every: int, seed: int) -> list[str]:
    """Two sessions, the second backwards."""
    return [name for back in (False, True) for name in schedule("ref", others, rounds, every, seed, back)]


def run(order: list[str], speed: Callable[[str, float], float], samples: int = 3, noise: float = 0.0, seed: int = 0):
    """Blocks of one second each; `speed` gives tokens per second of a variant at a time."""
    dice = np.random.default_rng(seed)
    blocks = []
    for when, name in enumerate(order):
        own = math.exp(dice.normal(0, noise))
        values = [speed(name, when) * own * math.exp(dice.normal(0, noise / 2)) for _ in range(samples)]
        blocks.append(Block(name, float(when), {DECODE: values, FIRST: [1000 / value for value in values]}))
    return blocks


def test_a_machine_that_slows_down_fools_one_after_the_other_but_not_in_turns() -> None:
    """The same artifact against itself while the machine loses a third of its speed."""

    def slower(_: str, when: float) -> float:
        return 100 * (1 - when / 36)

    one_after_the_other = run(["ref"] * 6 + ["same"] * 6, slower)
    medians = {name: np.median([v for b in one_after_the_other if b.variant == name for v in b.samples[DECODE]])
               for name in ("ref", "same")}  # fmt: skip
    assert medians["same"] / medians["ref"] < 0.85, "called 15% slower than itself"
    in_turns = run(sessions(["same"], 3, 1, seed=1), slower)
    found = speedup(in_turns, "same", "ref", RISING)
    assert found is not None and found.value == pytest.approx(1.0, abs=0.002)


def test_twice_as_fast_is_twice_as_fast_in_rates_and_in_times() -> None:
    blocks = run(["ref", "fast", "ref", "fast", "ref"], lambda name, _: 200.0 if name == "fast" else 100.0)
    for phase in (RISING, FALLING):
        found = speedup(blocks, "fast", "ref", phase)
        assert found is not None and found.value == pytest.approx(2.0)
        assert (found.blocks, found.pairs) == (2, 6)


def test_a_thousandfold_difference_is_no_trouble() -> None:
    blocks = run(["ref", "fast"] * 3 + ["ref"], lambda name, _: 1e5 if name == "fast" else 1e2, noise=0.05)
    found = speedup(blocks, "fast", "ref", RISING)
    assert found is not None and found.low < found.value < found.high
    assert found.value == pytest.approx(1000, rel=0.2)


def test_too_few_blocks_decide_nothing() -> None:
    assert speedup(run(["ref", "a", "ref"], lambda *_: 1.0), "a", "ref", RISING) is None
    assert speedup(run(["ref", "a", "a"], lambda *_: 1.0), "a", "ref", RISING) is None  # none of the reference after
    assert speedup(run(["ref", "a", "ref", "a", "ref"], lambda *_: 1.0), "a", "ref", ("load_s", False)) is None
    assert speedup([], "a", "ref", RISING) is None


def test_blocks_that_do_not_pair_are_refused() -> None:
    blocks = run(["ref", "a", "ref", "a", "ref"], lambda *_: 1.0)
    odd = Block("a", 1.0, {DECODE: [1.0]})
    with pytest.raises(ValueError, match="different numbers of samples"):
        speedup([blocks[0], odd, *blocks[2:]], "a", "ref", RISING)


def test_the_reference_against_itself_gives_the_floor() -> None:
    quiet = speedup(run(["ref"] * 9, lambda *_: 100.0), "ref", "ref", RISING)
    noisy = speedup(run(["ref"] * 9, lambda *_: 100.0, noise=0.05, seed=4), "ref", "ref", RISING)
    assert quiet is not None and noisy is not None
    assert noise_floor(quiet) == pytest.approx(0.0, abs=1e-9)
    assert 0.0005 < noise_floor(noisy) < 0.1
    assert noise_floor(noisy) == pytest.approx(max(noisy.value, 1 / noisy.value) - 1)


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_equals_are_rarely_called_different_and_a_tenth_slower_nearly_always(noise: float) -> None:
    """By the default blocks: of 200 comparisons of equals at most 5% differ; 10% slower is seen when noise allows."""
    order = sessions(["same", "slow"], rounds=2, every=5, seed=17)
    called = seen = 0
    for seed in range(200):
        blocks = run(order, lambda name, _: 90.0 if name == "slow" else 100.0, noise=noise, seed=seed)
        itself = speedup(blocks, "ref", "ref", RISING)
        same, slow = (speedup(blocks, name, "ref", RISING) for name in ("same", "slow"))
        assert itself is not None and same is not None and slow is not None
        floor = noise_floor(itself)
        wide = beyond(same.low, same.high, floor)
        called += not wide.low <= 1 <= wide.high
        seen += beyond(slow.low, slow.high, floor).high < 1
    assert called <= 10
    if noise == 0.01:
        assert seen >= 190
