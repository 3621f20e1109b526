"""The form of a stream whose answer may call tools."""

from __future__ import annotations

import pytest

from tasks.kinds.causal_lm.calling import BARE, TAGGED, CallForm
from tasks.serve.http.openai_form import Form
from tasks.serve.model.service import Chunk

CALL = {TAGGED: '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>', BARE: '{"name": "f", "parameters": {}}'}


def streamed(calls: CallForm, *pieces: str, finish: str = "stop") -> tuple[list[str], list[str], str]:
    """Contents, names of calls and how it ended."""
    form = Form("x", 0, "m", True, False, str, calls)
    contents, called, ended = [], [], ""
    for number, piece in enumerate(pieces):
        last = number + 1 == len(pieces)
        for event in form.chunk(Chunk(piece, (), finish if last else None)):
            [choice] = event["choices"]
            contents += [text for text in [choice["delta"].get("content")] if text]
            called += [one["function"]["name"] for one in choice["delta"].get("tool_calls", ())]
            ended = choice["finish_reason"] or ended
    return contents, called, ended


@pytest.mark.parametrize("calls", [TAGGED, BARE], ids=["tagged", "bare"])
def test_text_streams_and_calls_come_whole(calls: CallForm) -> None:
    assert streamed(calls, "Hel", "lo", "") == (["Hel", "lo"], [], "stop")
    assert streamed(calls, "", "\n", "Hi", " you") in (
        (["\nHi", " you"], [], "stop"),
        (["\n", "Hi", " you"], [], "stop"),
    )
    half = len(CALL[calls]) // 2
    assert streamed(calls, CALL[calls][:half], CALL[calls][half:]) == ([], ["f"], "tool_calls")
    assert streamed(calls, CALL[calls][:half], finish="length") == ([CALL[calls][:half]], [], "length")
    if calls is TAGGED:
        assert streamed(calls, "I look. <tool", CALL[calls][5:]) == (["I look. "], ["f"], "tool_calls")
