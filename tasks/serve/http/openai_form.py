"""The OpenAI form of answers: whole or in chunks, with log-probabilities, and with calls of tools. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from tasks.kinds.causal_lm.calling import Call, CallForm
from tasks.serve.model.service import Chunk
from tasks.serve.model.stops import Stops
from tasks.serve.model.worker import Token

ID = 9  # letters and digits of a call's id; some templates take no other number of them


def error(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def usage(prompt: int, made: int) -> dict[str, int]:
    """Tokens of prompt and answer."""
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


class Form:
    """Shape of a request's answers, whole and in chunks."""

    def __init__(
        self,
        number: str,
        created: int,
        model: str,
        chat: bool,
        logprobs: bool,
        token: Callable[[int], str],
        calls: CallForm | None = None,
    ) -> None:
        """`token` turns a token id into its text; `calls`: how an answer that may call tools writes it."""
        self._head = {"id": number, "created": created, "model": model}
        self._chat, self._logprobs, self._token, self._calls = chat, logprobs, token, calls
        self._said = _Said(calls) if calls else None

    def whole(self, answers: Sequence[Sequence[Chunk]], prompt_tokens: int) -> dict[str, Any]:
        """The answer to a request that is not streamed."""
        choices = [self._choice(i, chunks) for i, chunks in enumerate(answers)]
        made = sum(len(chunk.tokens) for chunks in answers for chunk in chunks if not chunk.echoed)
        name = "chat.completion" if self._chat else "text_completion"
        return {**self._head, "object": name, "choices": choices, "usage": usage(prompt_tokens, made)}

    def _choice(self, index: int, chunks: Sequence[Chunk]) -> dict[str, Any]:
        text, tokens = "".join(chunk.text for chunk in chunks), [t for chunk in chunks for t in chunk.tokens]
        finish = chunks[-1].finish
        body: dict[str, Any] = {"text": text}
        if self._chat:
            content, calls = self._calls.read(text) if self._calls else (text, [])
            body = {"message": {"role": "assistant", "content": content or (None if calls else "")}}
            if calls:
                body["message"]["tool_calls"] = [_call(call) for call in calls]
                finish = "tool_calls" if finish == "stop" else finish
        return {"index": index, **body, "logprobs": self._told(tokens), "finish_reason": finish}

    def beginning(self) -> Iterator[dict[str, Any]]:
        """Begin a stream: a chat's says who speaks."""
        if self._chat:
            yield self._chunk({"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None})

    def chunk(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """Write one chunk of a stream; none while text is kept back, as it is where a call of a tool may begin."""
        text, finish, calls = chunk.text, chunk.finish, list[Call]()
        if self._said:
            text, calls = self._said.add(chunk.text, bool(finish))
            finish = "tool_calls" if calls and finish == "stop" else finish
        if calls:
            written = [{"index": number, **_call(call)} for number, call in enumerate(calls)]
            yield self._chunk({"delta": {"tool_calls": written}, "logprobs": None, "finish_reason": None})
        if text or finish or (self._logprobs and chunk.tokens):
            body: dict[str, Any] = {"text": text}
            if self._chat:
                body = {"delta": {"content": text} if text or not finish else {}}
            yield self._chunk({**body, "logprobs": self._told(chunk.tokens), "finish_reason": finish})

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        name = "chat.completion.chunk" if self._chat else "text_completion"
        return {**self._head, "object": name, "choices": [{"index": 0, **choice}]}

    def closing(self, prompt_tokens: int, made: int) -> dict[str, Any]:
        """The usage a stream closes with where it is asked for."""
        name = "chat.completion.chunk" if self._chat else "text_completion"
        return {**self._head, "object": name, "choices": [], "usage": usage(prompt_tokens, made)}

    def _told(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        texts = [self._token(one.id) for one in tokens]
        if self._chat:
            content = [
                {**self._likely(one.id, one.logprob), "top_logprobs": [self._likely(*other) for other in one.top]}
                for one in tokens
            ]
            return {"content": content, "refusal": None}
        offsets = [0, *accumulate(map(len, texts))][:-1] if texts else []
        return {
            "tokens": texts,
            "token_logprobs": [one.logprob for one in tokens],
            "top_logprobs": [self._beside(one) for one in tokens] if any(one.top for one in tokens) else None,
            "text_offset": offsets,
        }

    def _likely(self, token: int, logprob: float | None) -> dict[str, Any]:
        text = self._token(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    def _beside(self, one: Token) -> dict[str, float] | None:
        """The likeliest tokens' texts with their log-probabilities, its own among them; of one text the best."""
        if one.logprob is None:
            return None
        found: dict[str, float] = {}
        for token, logprob in (*one.top, (one.id, one.logprob)):
            found.setdefault(self._token(token), logprob)
        return found


class _Said:
    """A stream's text so far; what may be a call of a tool is kept back until the end."""

    def __init__(self, calls: CallForm) -> None:
        self._calls = calls
        self._signs = Stops([calls.sign] if calls.sign else [])
        self._text, self._shown, self._called = "", 0, False

    def add(self, text: str, ends: bool) -> tuple[str, list[Call]]:
        """What to show of it now, and at the end the calls."""
        self._text += text
        if self._calls.sign and not self._called:
            shown, self._called = self._signs.add(text)
            self._shown += len(shown)
        elif not self._calls.sign and not self._called:
            first = self._text.lstrip()[:1]
            self._called = first == "{"
            shown = self._text[self._shown :] if first and not self._called else ""
            self._shown += len(shown)
        else:
            shown = ""
        if not ends:
            return shown, []
        _, calls = self._calls.read(self._text)
        return shown if calls else shown + self._text[self._shown :], calls


def _call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": uuid.uuid4().hex[:ID], "type": "function", "function": function}
