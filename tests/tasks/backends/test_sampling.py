"""Drawing tokens from logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tasks.backends.sampling import Sampler, Sampling

LOGITS = np.log(np.array([0.6, 0.25, 0.1, 0.05], dtype=np.float32))


def test_sampling_follows_the_probabilities() -> None:
    logits = np.log(np.array([0.6, 0.3, 0.1], dtype=np.float32))
    draws = [Sampler(Sampling(temperature=1.0, seed=seed)).next(logits).token for seed in range(2000)]
    assert np.bincount(draws, minlength=3) / 2000 == pytest.approx([0.6, 0.3, 0.1], abs=0.04)
    drawn = Sampler(Sampling()).next(logits)
    assert (drawn.token, drawn.logprob, drawn.top) == (0, pytest.approx(np.log(0.6), abs=1e-5), ())


@pytest.mark.parametrize(
    ("asked", "drawn"),
    [
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.8}, {0, 1}),
        ({"top_k": 1}, {0}),
        ({"top_k": 3}, {0, 1, 2}),
        ({"top_k": 99}, {0, 1, 2, 3}),
        ({"min_p": 0.4}, {0, 1}),
        ({"min_p": 1.0}, {0}),
        ({"top_k": 2, "top_p": 0.5}, {0}),  # of the two that are left the first has 0.7
        ({"top_k": 3, "min_p": 0.4}, {0, 1}),
        ({"bias": ((0, -100.0),)}, {1, 2, 3}),
        ({"temperature": 5e-324}, {0}),
        ({"repetition_penalty": 0.01}, {0, 1, 2, 3}),
        ({"bias": ((3, 100.0),)}, {3}),
        ({"bias": ((99, 100.0),)}, {0, 1, 2, 3}),  # a token that the model does not have
    ],
    ids=str,
)
def test_what_may_be_drawn(asked: dict[str, Any], drawn: set[int]) -> None:
    hot = {"temperature": 1.0, **asked}
    found = {Sampler(Sampling(seed=seed, **hot)).next(LOGITS).token for seed in range(300)}
    assert found == drawn


@pytest.mark.parametrize(
    ("asked", "prompt", "tokens"),
    [
        ({}, (), [0, 0, 0]),
        ({"presence_penalty": 1.0}, (), [0, 1, 0]),  # log .6 - 1 = -1.51 < log .25 = -1.39, then both are marked
        ({"frequency_penalty": 1.0}, (), [0, 1, 0]),
        ({"presence_penalty": -1.0}, (), [0, 0, 0]),
        ({"repetition_penalty": 3.0}, (0,), [1, 0, 0]),  # all logits are below 0, and so multiplied
        ({"repetition_penalty": 3.0}, (), [0, 1, 0]),
        ({"presence_penalty": 2.0}, (0,), [0, 1, 2]),  # the prompt does not count
    ],
)
def test_penalties(asked: dict[str, Any], prompt: tuple[int, ...], tokens: list[int]) -> None:
    sampler = Sampler(Sampling(**asked), prompt)
    assert [sampler.next(LOGITS).token for _ in range(3)] == tokens


class Only:
    """Lets two tokens through, in turns."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def allowed(self) -> Any:
        return np.arange(3) == 1 + len(self.seen) % 2

    def took(self, token: int) -> None:
        self.seen.append(token)


def test_a_guide_decides_what_may_come_and_hears_what_came() -> None:
    guide = Only()
    sampler = Sampler(Sampling(guide=guide, bias=((3, 100.0),)))  # the mask ends before token 3, which may not come
    assert [sampler.next(LOGITS).token for _ in range(4)] == [1, 2, 1, 2] == guide.seen
    assert sampler.next(LOGITS).logprob == pytest.approx(np.log(0.25), abs=1e-5)  # the model's own, as if it were free


@given(arrays.arrays(np.float32, st.integers(2, 60), elements=st.floats(-50, 50, width=32)), st.integers(0, 20))
def test_the_likeliest_are_told_in_order(logits: Any, count: int) -> None:
    before = logits.copy()
    drawn = Sampler(Sampling(temperature=0.7, top_k=3, seed=1, top=count, bias=((0, 1.0),), frequency_penalty=1)).next(
        logits
    )
    assert (logits == before).all()  # the caller's own
    assert len(drawn.top) == min(count, len(logits))
    told = [logprob for _, logprob in drawn.top]
    assert told == sorted(told, reverse=True)
    whole = np.log(np.exp(logits.astype(np.float64) - logits.max()).sum()) + logits.max()
    assert told == pytest.approx(sorted(logits - whole, reverse=True)[: len(told)], abs=1e-3)


SETTINGS = {
    "temperature": st.floats(0, 2), "top_k": st.integers(0, 9), "min_p": st.floats(0, 1), "grammar": st.text(),
    "seed": st.none() | st.integers(0, 2**63 - 1), "top": st.integers(0, 20), "top_p": st.floats(0.01, 1),
    "bias": st.lists(st.tuples(st.integers(0, 99), st.floats(-100, 100))).map(tuple),
}  # fmt: skip


@given(st.fixed_dictionaries({}, optional=SETTINGS))
def test_settings_arrive_as_they_were_told(asked: dict[str, Any]) -> None:
    import json

    assert Sampling.read(json.loads(json.dumps(Sampling(**asked).told()))) == Sampling(**asked)
