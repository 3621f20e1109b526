"""The server's side of the model process."""

from __future__ import annotations

import asyncio

import pytest

from tasks.serve.model.process import Answer, ModelProcess
from tasks.serve.model.worker import Opening, Token


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


@pytest.mark.parametrize(("device", "then", "fell"), [("NPU", "CPU", True), ("CPU", "auto", False)])
def test_a_probe_that_fails_on_an_accelerator_has_the_next_worker_on_the_processor(
    device: str, then: str, fell: bool
) -> None:
    opening = Opening(package="", manifest_sha256=None, threads=1, slots=1, context=64, ends=(), pace_s=0.0)
    process = ModelProcess(opening, lambda _: None)
    process._heard({"ready": {"device": device, "fallback": None}})
    assert not process.device_fell
    process.leave_device("the model gave no token for 5 s")
    assert (process.opening.device, process.device_fell) == (then, fell)
