"""The server's pure parts: stop sequences, the binary protocol, sampling, the log's files."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.backends.sampling import Sampler, Sampling
from tasks.errors import DataError
from tasks.serve import oip
from tasks.serve.places import FullError, Places
from tasks.serve.prediction_log import NAME, Prediction, PredictionLog, read
from tasks.serve.process import Answer, ModelProcess
from tasks.serve.stops import Stops
from tasks.serve.worker import Opening, Pace, Token


@given(st.lists(st.text("abc", max_size=4), max_size=12), st.lists(st.text("abc", min_size=1, max_size=3), max_size=3))
def test_text_in_pieces_is_cut_where_the_whole_would_be(pieces: list[str], sequences: list[str]) -> None:
    stops, shown, stopped = Stops(sequences), "", False
    for piece in pieces:
        text, stopped = stops.add(piece)
        shown += text
        if stopped:
            break
    else:
        shown += stops.rest()
    whole = "".join(pieces)
    places = [whole.find(one) for one in sequences if one in whole]
    assert stopped == bool(places)
    if not places:
        assert shown == whole
    else:  # a longer sequence that begins earlier may be whole only after a shorter one was found
        assert whole.startswith(shown) and not any(one in shown for one in sequences)


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


def test_tokens_that_came_together_keep_their_distance_and_the_last_came_when_it_was_heard() -> None:
    async def heard() -> tuple[float, list[Token]]:
        opening = Opening(
            package="", manifest_sha256=None, threads=1, slots=1, context=64, ends=(), pace_s=0.0
        )  # fmt: skip
        process = ModelProcess(opening, lambda _: None)
        answer = Answer(process, 3, asyncio.Queue())
        process._answers[3] = answer.queue
        process._heard({"made": [[3, [5, -0.1, None, 1.0]], [4, [9, -0.2, None, 1.0]], [3, [6, -0.3, "length", 1.25]]]})
        return process.heard, await answer.next()

    when, tokens = asyncio.run(heard())
    assert [(one.id, one.logprob, one.finish) for one in tokens] == [(5, -0.1, None), (6, -0.3, "length")]
    assert [one.when for one in tokens] == pytest.approx([when - 0.25, when])


def test_a_request_that_nobody_waits_for_is_not_told() -> None:
    pace = Pace(10.0)
    first = [(key, Token(1, None, None, 1.0)) for key in (7, 8)]
    assert pace.add(first) == first
    assert pace.add([(key, Token(2, None, None, 1.1)) for key in (7, 8)]) == []
    pace.forget(7)
    assert pace.rest(1.2) == [(8, Token(2, None, None, 1.1))]


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_binary_texts_come_back(texts: list[str]) -> None:
    assert oip._unpacked("x", oip.packed(texts)) == texts


@given(st.binary(max_size=40))
def test_rubbish_is_refused_in_words(raw: bytes) -> None:
    head = json.dumps(
        {
            "inputs": [
                {"name": "prompt", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
            ]
        }
    ).encode()
    try:
        _, prompts = oip.parsed(head + raw, str(len(head)))
    except DataError as error:
        assert "prompt" in str(error)
    else:
        assert oip.packed(prompts) == raw


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ({"datatype": "FP32", "data": ["a"]}, "must be BYTES"),
        ({"data": []}, "not empty"),
        ({"data": [""]}, "not empty"),
        ({"data": [1]}, "not empty"),
        ({"data": ["a"], "shape": [2]}, r"which is 2 texts; 1 came"),
        ({"parameters": {"binary_data_size": 4}}, "0 bytes are left"),
        ({"name": "other", "data": ["a"]}, "no input is called prompt"),
    ],
)
def test_tensors_that_do_not_fit(tensor: dict, said: str) -> None:
    body = json.dumps({"inputs": [{"name": "prompt", "datatype": "BYTES", **tensor}]}).encode()
    with pytest.raises(DataError, match=said):
        oip.parsed(body, None)


@pytest.mark.parametrize("length", ["x", "-1", "99999"])
def test_a_header_length_that_cannot_be(length: str) -> None:
    with pytest.raises(DataError, match="inference-header-content-length"):
        oip.parsed(b"{}", length)


def test_sampling_follows_the_probabilities() -> None:
    logits = np.log(np.array([0.6, 0.3, 0.1], dtype=np.float32))
    draws = [Sampler(Sampling(temperature=1.0, seed=seed)).next(logits)[0] for seed in range(2000)]
    assert np.bincount(draws, minlength=3) / 2000 == pytest.approx([0.6, 0.3, 0.1], abs=0.04)
    nucleus = {Sampler(Sampling(temperature=1.0, top_p=0.5, seed=seed)).next(logits)[0] for seed in range(50)}
    assert nucleus == {0}
    token, logprob = Sampler(Sampling()).next(logits)
    assert (token, logprob) == (0, pytest.approx(np.log(0.6), abs=1e-5))


def test_places_are_given_in_order_and_none_is_lost() -> None:
    async def story() -> list[int]:
        places, given = Places(2, 3), []

        async def guest(number: int) -> None:
            await places.take(5.0)
            given.append(number)

        await places.take(5.0)
        await places.take(5.0)
        guests = [asyncio.create_task(guest(number)) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(FullError):
            await places.take(5.0)
        guests[1].cancel()  # leaves the queue
        await asyncio.sleep(0)
        assert places.waiting == 2
        places.leave()
        guests[0].cancel()  # was given a place in this very moment
        await asyncio.sleep(0.01)
        assert places.taken == 2  # which went to the next
        places.leave()
        places.leave()
        assert places.taken == 0
        await places.take(5.0)
        await places.take(5.0)
        with pytest.raises(TimeoutError):
            await places.take(0.01)
        assert places.waiting == 0
        return given

    assert asyncio.run(story()) == [2]


def prediction(number: int) -> Prediction:
    return Prediction(
        request_id=str(number), when="2026-01-01T00:00:00.000+00:00", version="1", slot="", endpoint="/v1/completions",
        outcome="ok", finish="stop", prompt_sha256="0" * 64, prompt_tokens=3, new_tokens=4, queue_ms=0.1,
        first_token_ms=5.0, inter_token_ms=2.0, whole_ms=20.0, confidence=0.5,
    )  # fmt: skip


def test_the_log_is_put_aside_when_large_and_the_oldest_goes(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, 3 * len(prediction(0).model_dump_json()), 2)
    for number in range(20):
        log.add(prediction(number))
    log.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == [NAME, f"{NAME}.1", f"{NAME}.2"]
    kept = [int(one.request_id) for one in read(tmp_path)]
    assert kept == list(range(kept[0], 20)) and len(kept) >= 6


def test_a_line_cut_short_costs_no_other(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, 1e9, 2)
    log.add(prediction(1))
    log.close()
    with (tmp_path / NAME).open("a") as file:
        file.write('{"request_id": "2", "whe')
    log = PredictionLog(tmp_path, 1e9, 2)
    log.add(prediction(3))
    log.close()
    assert [one.request_id for one in read(tmp_path)] == ["1", "3"]


@pytest.mark.parametrize(
    ("got", "alike"),
    [
        ([(1, -0.5), (2, -0.7), (3, -0.1)], True),
        ([(1, -0.5), (9, -0.8), (7, -2.0)], True),  # two tokens as likely: what follows is another text
        ([(1, -0.5), (9, -2.5), (3, -0.1)], False),
        ([(9, None), (2, -0.7), (3, -0.1)], False),
    ],
)
def test_an_answer_of_the_probe_may_part_at_a_tie_alone(got: list[tuple[int, float | None]], alike: bool) -> None:
    from tasks.serve.health import same

    assert same(got, [(1, -0.5), (2, -0.7), (3, -0.1)]) == alike
