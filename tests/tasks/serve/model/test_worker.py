"""The process that holds the model: how its tokens are paced, and where its threads run."""

from __future__ import annotations

import io
import json
import os
import queue
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tasks.backends.base import Made
from tasks.backends.sampling import Sampling
from tasks.serve.model.worker import CLOSED, Beside, Pace, Token, serve
from tests.serving import Running


def test_with_a_core_for_each_the_threads_of_llama_cpp_keep_to_their_own(running: Running) -> None:
    assert running.post("/v1/completions", {"prompt": "word", "max_tokens": 4}).status_code == 200
    kept = [os.sched_getaffinity(thread.id) for thread in running.model_process.threads()]
    assert all({core} in kept for core in os.sched_getaffinity(0))


STEPS = st.lists(  # of an engine: how long each takes, and which of four requests get a token
    st.tuples(st.floats(0.0, 0.05), st.sets(st.integers(0, 3))), max_size=60
)


@given(STEPS, st.floats(0.0, 0.1), st.dictionaries(st.integers(0, 3), st.integers(1, 30)))
def test_paced_tokens_are_all_told_in_order_and_none_waits_that_somebody_waits_for(
    steps: list[tuple[float, set[int]]], pace_s: float, lengths: dict[int, int]
) -> None:
    pace, now, made, told, count, said = Pace(pace_s), 100.0, [], [], dict.fromkeys(range(4), 0), 0.0
    for seconds, keys in steps:
        now += seconds
        step = []
        for key in sorted(keys):
            if count[key] < lengths.get(key, 30):
                count[key] += 1
                end = "length" if count[key] == lengths.get(key, 30) else None
                step.append((key, Token(count[key], None, end, now)))
        made += step
        message = pace.add(step)
        told += message
        urgent = any(one.id == 1 or one.finish for _, one in step)
        if message:
            assert urgent or now - said >= pace_s
            said = now
        else:
            assert not step or not (urgent or now - said >= pace_s)
    assert told + pace.rest(now) == made


class Counting:
    """An engine that makes a token a step for each request, and notes its steps among what else is done."""

    def __init__(self, done: list[str]) -> None:
        self.left: dict[int, int] = {}
        self.done = done

    def add(self, key: int, ids: Sequence[int], new_tokens: int, sampling: Sampling) -> None:
        self.left[key] = new_tokens

    def step(self) -> list[Made]:
        self.done.append("step")
        made = [Made(key, 5, 0.0, left == 1) for key, left in self.left.items()]
        self.left = {key: left - 1 for key, left in self.left.items() if left > 1}
        return made

    def drop(self, key: int) -> None:
        self.left.pop(key, None)

    def close(self) -> None: ...


class Scoring(Beside):
    """Notes what it scores; refuses one text."""

    def __init__(self, done: list[str]) -> None:
        self.done = done

    def score(self, ids: Sequence[int], top: int) -> list[Token]:
        self.done.append(f"score {ids[0]}")
        if ids[0] == 3:
            raise ValueError("too long")
        return [Token(ids[0], None, "scored", 0.0)]


def test_texts_are_scored_one_between_two_steps_and_a_refusal_harms_nobody() -> None:
    done: list[str] = []
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    inbox.put({"add": 1, "ids": [1], "new_tokens": 4, "sampling": {}, "ends": False})
    for key in (2, 3, 4, 5):
        inbox.put({"score": key, "ids": [key], "top": 0})
    inbox.put({"drop": 4})
    out = io.StringIO()

    class Closing(Counting):
        def step(self) -> list[Made]:
            made = super().step()
            if not self.left:
                inbox.put(CLOSED)
            return made

    serve(Closing(done), frozenset(), inbox, out, 0.0, Scoring(done))
    assert done == ["score 2", "step", "score 3", "step", "score 5", "step", "step"]
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [one["refused"] for one in told if "refused" in one] == [[3, "ValueError: too long"]]
    assert {made[0] for one in told for made in one.get("made", ())} == {1, 2, 5}


def test_a_request_that_nobody_waits_for_is_not_told() -> None:
    pace = Pace(10.0)
    first = [(key, Token(1, None, None, 1.0)) for key in (7, 8)]
    assert pace.add(first) == first
    assert pace.add([(key, Token(2, None, None, 1.1)) for key in (7, 8)]) == []
    pace.forget(7)
    assert pace.rest(1.2) == [(8, Token(2, None, None, 1.1))]
