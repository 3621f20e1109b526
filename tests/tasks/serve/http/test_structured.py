"""Answers of a set form, calls of tools, settings of drawing, and prompts that are scored, by OpenAI's own client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from tasks.backends.table import tokens
from tests.serving import NAME, Running, package, server
from tests.tasks.serve.asking import PROMPT, ask

PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "old": {"type": "boolean"}},
          "required": ["name", "old"], "additionalProperties": False}  # fmt: skip
SCHEMA = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
WEATHER = {"name": "get_weather", "description": "of a city", "parameters": {
    "type": "object", "properties": {"city": {"enum": ["Bern", "Rome"]}}, "required": ["city"],
    "additionalProperties": False}}  # fmt: skip
NOW = {"name": "now"}
TOOLS = [{"type": "function", "function": one} for one in (WEATHER, NOW)]
TALK = [{"role": "user", "content": "Weather in Bern?"}]


def chat(client: openai.OpenAI, **more: Any) -> Any:
    asked = {"messages": TALK, "max_tokens": 120, "temperature": 0} | more
    return client.chat.completions.create(model=NAME, **asked)


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_json_of_a_schema_comes_whole_and_in_a_stream(client: openai.OpenAI, temperature: float) -> None:
    asked = {"response_format": SCHEMA, "temperature": temperature, "seed": 3}
    whole = chat(client, **asked).choices[0]
    assert whole.finish_reason == "stop"
    found = json.loads(whole.message.content)
    assert set(found) == {"name", "old"} and isinstance(found["old"], bool)
    pieces = [one.choices[0] for one in chat(client, stream=True, **asked)]
    assert "".join(one.delta.content or "" for one in pieces) == whole.message.content


def test_any_object(client: openai.OpenAI) -> None:
    answer = chat(client, response_format={"type": "json_object"}, max_tokens=200, temperature=1, seed=1).choices[0]
    assert answer.message.content.startswith("{")
    if answer.finish_reason == "stop":
        assert isinstance(json.loads(answer.message.content), dict)
    assert chat(client, response_format={"type": "text"}, max_tokens=4).choices[0].message.content


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_tools_that_must_be_called_are(client: openai.OpenAI, choice: Any) -> None:
    answer = chat(client, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False).choices[0]
    assert answer.finish_reason == "tool_calls" and answer.message.content is None
    (call,) = answer.message.tool_calls
    assert call.function.name in ("get_weather", "now") and len(call.id) == 9
    if isinstance(choice, dict):
        assert json.loads(call.function.arguments)["city"] in ("Bern", "Rome")
    pieces = [
        one.choices[0] for one in chat(client, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False, stream=True)
    ]
    told = [one for piece in pieces for one in piece.delta.tool_calls or ()]
    assert [(one.index, one.function.name, one.function.arguments) for one in told] == [
        (0, call.function.name, call.function.arguments)
    ]
    assert pieces[-1].finish_reason == "tool_calls" and not any(piece.delta.content for piece in pieces)
    history = [*TALK, answer.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    assert chat(client, messages=history, tools=TOOLS, max_tokens=4).usage.completion_tokens > 0


def test_tools_that_may_be_called_leave_text_as_it_is(client: openai.OpenAI) -> None:
    free = chat(client, tools=TOOLS, max_tokens=12).choices[0]
    assert free.message.tool_calls is None and free.message.content
    pieces = chat(client, tools=TOOLS, max_tokens=12, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in pieces) == free.message.content
    assert chat(client, tools=TOOLS, tool_choice="none", max_tokens=12).choices[0].message.tool_calls is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"response_format": {"type": "json_schema"}}, "json_schema is missing"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "no"}}}}, "held to"),
        ({"response_format": SCHEMA, "extra_body": {"ignore_eos": True}}, "leave one of them out"),
        ({"response_format": SCHEMA, "tools": TOOLS}, "has a form already"),
        ({"tools": TOOLS * 2}, "same name"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "name"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "none of the tools"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"top_logprobs": 3}, "only with logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {"49152": 1}}, "logit_bias: token 49152"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"extra_body": {"top_k": -2}}, "top_k"),
        ({"extra_body": {"guided_json": {}}}, "use response_format"),
        ({"extra_body": {"functions": [1]}}, "use tools"),
        ({"extra_body": {"echo": True}}, "/v1/completions"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_held_to_is_said(client: openai.OpenAI, change: dict[str, Any], said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        chat(client, **change)


def test_settings_of_drawing_reach_the_model(client: openai.OpenAI) -> None:
    whole = ask(client, logprobs=0)
    first = whole.choices[0].logprobs.tokens[0]
    greedy = {"temperature": 1.5, "seed": 1}
    assert ask(client, extra_body={"top_k": 1}, **greedy).choices[0].text == whole.choices[0].text
    assert ask(client, extra_body={"min_p": 1.0}, **greedy).choices[0].text == whole.choices[0].text
    told = ask(client, logprobs=5).choices[0].logprobs
    assert len(told.top_logprobs[0]) == 5 and max(told.top_logprobs[0], key=told.top_logprobs[0].get) == first
    banned = ask(client, logit_bias={str(49000): 100}, max_tokens=3, logprobs=1).choices[0].logprobs
    assert len(set(banned.tokens)) == 1 and banned.token_logprobs[0] < 0 and banned.tokens[0] != first
    likely = chat(client, logprobs=True, top_logprobs=2, max_tokens=3).choices[0].logprobs.content
    assert all(one.top_logprobs[0].logprob >= one.top_logprobs[1].logprob and one.token == one.top_logprobs[0].token
               for one in likely)  # fmt: skip
    again = ask(client, frequency_penalty=2, presence_penalty=2, max_tokens=30, logprobs=0).choices[0].logprobs.tokens
    assert len(set(again)) > len(set(ask(client, max_tokens=30, logprobs=0).choices[0].logprobs.tokens)) or len(
        set(again)
    ) == len(again)


def test_a_prompt_is_scored_as_the_measured_session_does(client: openai.OpenAI, made: Path, alone: Any) -> None:
    text, _ = alone
    ids = text.encode(PROMPT)
    scorer = tokens("gguf").scorer(made / "model", 2)
    logits = scorer.score(ids).astype(np.float64)
    scorer.close()
    wanted = [
        row[token] - np.log(np.exp(row - row.max()).sum()) - row.max()
        for row, token in zip(logits, ids[1:], strict=False)
    ]
    answer = ask(client, prompt=ids, echo=True, logprobs=1, max_tokens=1)
    told = answer.choices[0].logprobs
    assert answer.choices[0].text.startswith(PROMPT) and answer.usage.completion_tokens == len(told.tokens) - len(ids)
    assert told.token_logprobs[0] is None and told.token_logprobs[1 : len(ids)] == pytest.approx(wanted, abs=1e-3)
    assert told.top_logprobs[0] is None and told.top_logprobs[1][told.tokens[1]] == told.token_logprobs[1]
    assert told.text_offset[1] == len(told.tokens[0])
    only = ask(client, echo=True, logprobs=0, max_tokens=0)
    assert only.choices[0].text == PROMPT and only.choices[0].finish_reason == "length"
    assert only.choices[0].logprobs.token_logprobs[1:] == pytest.approx(wanted, abs=1e-3)
    assert only.usage.completion_tokens == 0
    assert ask(client, echo=True, max_tokens=4).choices[0].text == PROMPT + ask(client, max_tokens=4).choices[0].text
    pieces = list(ask(client, echo=True, max_tokens=4, stream=True))
    assert pieces[0].choices[0].text == PROMPT
    both = ask(client, prompt=[PROMPT, "Hello"], echo=True, logprobs=1, max_tokens=1).choices
    assert [one.text.startswith(start) for one, start in zip(both, (PROMPT, "Hello"), strict=True)] == [True, True]


@pytest.mark.parametrize("runtime", ["openvino", "onnx", "torch", "mlx"])
def test_every_runtime_holds_to_a_form(tiny_model: Path, tmp_path: Path, runtime: str) -> None:
    with server(tmp_path, package(tmp_path / "package", tiny_model, runtime), slots=2) as one:
        client = openai.OpenAI(base_url=f"{one.base}/v1", api_key="none", max_retries=0)
        answer = chat(client, response_format=SCHEMA, temperature=1, seed=1)
        assert set(json.loads(answer.choices[0].message.content)) == {"name", "old"}
        called = chat(
            client, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, logprobs=True, top_logprobs=2
        )
        assert called.choices[0].message.tool_calls and called.choices[0].logprobs.content[0].top_logprobs
        scored = ask(client, echo=True, logprobs=1, max_tokens=1).choices[0].logprobs
        assert scored.token_logprobs[0] is None and all(value <= 0 for value in scored.token_logprobs[1:])
        plain = ask(client, logprobs=0, max_tokens=4).choices[0].logprobs
        likely = ask(client, logprobs=2, max_tokens=4).choices[0].logprobs
        assert plain.tokens == likely.tokens
        assert plain.token_logprobs == pytest.approx(likely.token_logprobs, abs=0.05)


def test_a_request_that_the_model_refuses_leaves_the_others(running: Running, client: openai.OpenAI) -> None:
    restarts = running.metric("edgewright_model_restarts")
    with pytest.raises(openai.BadRequestError, match="tokens are scored|fit"):
        ask(client, prompt=[5] * 4000, echo=True, logprobs=0, max_tokens=0)
    assert ask(client).choices[0].text and running.metric("edgewright_model_restarts") == restarts
