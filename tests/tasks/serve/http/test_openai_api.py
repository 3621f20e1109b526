"""OpenAI's own client against a running server."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import openai
import pytest

from tests.serving import NAME, Running, server
from tests.tasks.serve.asking import PROMPT, ask


def test_a_completion_is_what_the_measured_session_writes(client, alone) -> None:
    text, tokens = alone
    answer = ask(client, logprobs=1)
    ends = next((i for i, token in enumerate(tokens) if token in text.ends), len(tokens))
    assert answer.choices[0].text == text.decode(tokens[:ends])
    assert answer.choices[0].finish_reason == ("length" if ends == len(tokens) else "stop")
    assert answer.usage.prompt_tokens == len(text.encode(PROMPT))
    assert answer.usage.completion_tokens == ends
    told = answer.choices[0].logprobs
    assert len(told.token_logprobs) == ends and all(-20 < value <= 0 for value in told.token_logprobs)


def test_a_stream_says_the_same_piece_by_piece(client) -> None:
    whole = ask(client)
    pieces = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(one.choices[0].text for one in pieces if one.choices) == whole.choices[0].text
    assert [one.choices[0].finish_reason for one in pieces if one.choices][-1] == whole.choices[0].finish_reason
    assert pieces[-1].usage == whole.usage


@pytest.mark.parametrize("pace_ms", [0, 1000])
def test_tokens_that_are_made_faster_than_the_pace_share_a_piece(made: Path, tmp_path: Path, pace_ms: int) -> None:
    with server(tmp_path, made, pace_ms=pace_ms) as one:
        ours = openai.OpenAI(base_url=f"{one.base}/v1", api_key="none", max_retries=0)
        more = {"max_tokens": 40, "logprobs": 1, "extra_body": {"ignore_eos": True}}
        whole, pieces = ask(ours, **more), list(ask(ours, stream=True, **more))
        noted = one.metric("edgewright_inter_token_seconds_count")
    told = [logprob for piece in pieces for logprob in piece.choices[0].logprobs.token_logprobs]
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    assert told == pytest.approx(whole.choices[0].logprobs.token_logprobs, abs=0.01)
    sizes = [len(piece.choices[0].logprobs.tokens) for piece in pieces]
    assert sizes == [1] * 40 if not pace_ms else (len(sizes) < 10 and sizes[0] == 1)
    assert noted == 2 * 39  # one by one, whatever they came in


def test_a_chat_goes_through_the_template(client, alone) -> None:
    text, _ = alone
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}]
    answer = client.chat.completions.create(model=NAME, messages=messages, max_tokens=8, temperature=0, logprobs=True)
    assert answer.usage.prompt_tokens == len(text.converse(messages))
    assert answer.choices[0].message.role == "assistant"
    assert len(answer.choices[0].logprobs.content) == answer.usage.completion_tokens
    stream = client.chat.completions.create(model=NAME, messages=messages, max_tokens=8, temperature=0, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in stream) == answer.choices[0].message.content


def test_a_seed_repeats_an_answer_and_another_changes_it(client) -> None:
    drawn = [ask(client, temperature=1.5, seed=seed, max_tokens=16).choices[0].text for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_stop_sequence_ends_the_answer_and_is_not_shown(client) -> None:
    whole = ask(client).choices[0].text
    stop = whole[4:7]
    answer = ask(client, stop=[stop])
    assert answer.choices[0].text == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_several_prompts_and_token_ids(client, alone) -> None:
    text, _ = alone
    answer = client.completions.create(
        model=NAME, prompt=[text.encode(PROMPT), text.encode("Hello")], max_tokens=4, temperature=0
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].text == ask(client, max_tokens=4).choices[0].text


def test_models_are_listed(client) -> None:
    assert [one.id for one in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).id == NAME
    with pytest.raises(openai.NotFoundError, match="there is no model 'other'; this server has 'tiny'"):
        client.completions.create(model="other", prompt="x")
    with pytest.raises(openai.BadRequestError, match="an encoder"):
        client.embeddings.create(model=NAME, input="x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"n": 5}, "serve.slots"),
        ({"n": 2, "stream": True}, "one request for each"),
        ({"stop": "x" * 1025}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"extra_body": {"typical_p": 0.4}}, "typical_p is not supported"),
        ({"extra_body": {"repeat_penalty": 1.1}}, "use repetition_penalty"),
        ({"extra_body": {"min_tokens": 3}}, "min_tokens is not supported"),
        ({"suffix": "x"}, "suffix is not supported"),
        ({"best_of": 2}, "best_of is not supported"),
        ({"prompt": ""}, "empty"),
        ({"prompt": []}, "empty"),
        ({"prompt": [49152]}, "vocabulary"),
        ({"prompt": "word " * 300}, "serve.context_tokens"),
        ({"prompt": ["a"] * 5}, "serve.slots"),
        ({"prompt": ["a", "b"], "stream": True}, "one request for each"),
    ],
)
def test_what_cannot_be_done_is_said_in_openais_form(client, change, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said) as raised:
        ask(client, **change)
    assert raised.value.body["type"] == "invalid_request_error"


SETTABLE = (
    "temperature", "top_p", "max_tokens", "stop", "seed", "stream", "stream_options", "n", "logprobs", "top_logprobs",
    "presence_penalty", "frequency_penalty", "logit_bias", "tools", "tool_choice", "response_format", "user",
    "max_completion_tokens", "parallel_tool_calls", "metadata", "store", "reasoning_effort", "model",
)  # fmt: skip
HI = [{"role": "user", "content": "Say hi."}]
CALLED = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    "change",
    [
        *({name: None} for name in SETTABLE),
        {"seed": -1},
        {"max_tokens": 4096},
        {"max_tokens": -1},
        {"top_p": 0},
        {"stop": []},
        {"stop": ""},
        {"stop": ["x" * 80, "a", "b", "c", "d", "e"]},
        {"top_logprobs": 0, "top_k": -1, "repetition_penalty": 1.0},
        {"n": 2},
        {"stream": True, "stream_options": {"include_usage": None}},
        {"messages": [*HI, {"role": "assistant", "content": None, "tool_calls": CALLED},
                      {"role": "tool", "tool_call_id": "c1", "content": "42"}, *HI]},
        {"messages": [*HI, {"role": "assistant", "tool_calls": CALLED}, *HI]},
        {"messages": [{"role": "user", "name": "ann", "content": [{"type": "text", "text": "Say"}]}]},
        {"messages": [{"role": "user", "content": "half \ud83d nul \0 end <|im_end|> [PAD]"}]},
        {"messages": [{"role": "user", "content": ""}]},
    ],
    ids=str,
)  # fmt: skip
def test_what_clients_send_for_nothing_is_taken(running: Running, change: dict[str, object]) -> None:
    asked = json.dumps({"model": NAME, "messages": HI, "max_tokens": 4, **change})  # half of a character is written so
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{running.base}/v1/chat/completions", content=asked, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "user", "content": None}],
        [{"role": "user"}],
        [{"role": "assistant", "content": None}, *HI],
        [*HI, {"role": "assistant", "content": "Hi"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
    ],
)
def test_messages_that_say_nothing_are_refused(running: Running, messages: list[object]) -> None:
    assert running.post("/v1/chat/completions", {"messages": messages}).status_code == 400


def test_several_answers_of_one_prompt_are_drawn_by_seeds_of_their_own(client) -> None:
    drawn = {"temperature": 1.5, "max_tokens": 12}
    answer = ask(client, n=3, seed=5, **drawn)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    alone = [ask(client, seed=seed, **drawn) for seed in (5, 6, 7)]
    assert [choice.text for choice in answer.choices] == [one.choices[0].text for one in alone]
    assert answer.usage.prompt_tokens == alone[0].usage.prompt_tokens
