"""The process that holds the model: how its tokens are paced, and where its threads run."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from tasks.serve.model.worker import Pace, Token
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


def test_a_request_that_nobody_waits_for_is_not_told() -> None:
    pace = Pace(10.0)
    first = [(key, Token(1, None, None, 1.0)) for key in (7, 8)]
    assert pace.add(first) == first
    assert pace.add([(key, Token(2, None, None, 1.1)) for key in (7, 8)]) == []
    pace.forget(7)
    assert pace.rest(1.2) == [(8, Token(2, None, None, 1.1))]
