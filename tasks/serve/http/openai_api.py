"""The OpenAI form of requests and answers: what is taken, what is refused, how an answer looks. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.backends.sampling import Sampling
from tasks.serve.model.service import Chunk

TokenIds = list[Annotated[int, Field(ge=0)]]
StopSequence = Annotated[str, Field(max_length=1024)]
MOST_STOPS, MOST_CHOICES = 16, 16
# What other servers do and this one does not: refused where a request asks for it, rather than left out unsaid.
UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {  # field -> values that ask for nothing
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "top_logprobs": (0,),
    "top_k": (-1, 0),
    "min_p": (0,),
    "repetition_penalty": (1,),
    "repeat_penalty": (1,),
    "audio": (),
    "modalities": (["text"],),
}


LEAST_TOP_P = 1e-6  # the likeliest token alone, which 0 means


class StreamOptions(BaseModel):
    include_usage: bool | None = False


class Request(BaseModel):
    """What completions and chat completions have in common; further fields are taken as OpenAI's clients send them."""

    model_config = ConfigDict(extra="allow")

    model: str = ""
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] | None = None  # more than there is room for gives what there is
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] = 1
    stop: StopSequence | Annotated[list[StopSequence], Field(max_length=MOST_STOPS)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False  # go on past an end of text, as other servers' extension of this name: for equal work

    @model_validator(mode="before")
    @classmethod
    def _said(cls, given: Any) -> Any:
        """Null is left out, as clients send it for what was not set; -1 is other servers' word for the same."""
        if not isinstance(given, dict):
            return given
        unset = {name for name in ("seed", "max_tokens", "max_completion_tokens") if given.get(name) == -1}
        return {name: value for name, value in given.items() if value is not None and name not in unset}

    @model_validator(mode="after")
    def _supported(self) -> Request:
        for name, value in (self.model_extra or {}).items():
            if name in UNSUPPORTED and value not in UNSUPPORTED[name]:
                raise ValueError(f"{name} is not supported by this server; leave it out")
        return self

    @property
    def sampling(self) -> Sampling:
        """Settings by which the answer is drawn."""
        return Sampling(self.temperature, max(self.top_p, LEAST_TOP_P), self.seed)

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop sequences; one that is empty stops nothing."""
        named = () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        return tuple(one for one in named if one)

    @property
    def usage_at_end(self) -> bool:
        """Tell whether a stream closes with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionRequest(Request):
    """/v1/completions."""

    prompt: str | TokenIds | list[str] | list[TokenIds]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """One prompt or several."""
        if isinstance(self.prompt, str) or (self.prompt and isinstance(self.prompt[0], int)):
            return [self.prompt]
        return list(self.prompt)  # type: ignore[arg-type]


class Part(BaseModel):
    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn of a conversation; its content is text, maybe in parts."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None

    @model_validator(mode="after")
    def _said(self) -> Message:
        calls = (self.model_extra or {}).get("tool_calls") or (self.model_extra or {}).get("function_call")
        if self.content is None and not (self.role == "assistant" and calls):
            raise ValueError("content is missing; only an assistant's message that calls tools has none")
        return self

    @property
    def plain(self) -> dict[str, str]:
        """The message as a chat template takes it.

        What an assistant called and what a tool said are written out, as most templates know neither: as text of the
        assistant, and as a message of the user.
        """
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())
        calls = (self.model_extra or {}).get("tool_calls") or ()
        if self.role == "assistant" and calls:
            text = "\n".join(filter(None, (text, *(json.dumps(call, ensure_ascii=False) for call in calls))))
        role = {"developer": "system", "tool": "user", "function": "user"}.get(self.role, self.role)
        return {"role": role, "content": text}


class ChatRequest(Request):
    """/v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    logprobs: bool | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    @field_validator("messages")
    @classmethod
    def _ends_with_a_question(cls, messages: list[Message]) -> list[Message]:
        if messages[-1].role == "assistant":
            raise ValueError("the last message is the assistant's own; there is nothing to answer")
        return messages

    @property
    def most_tokens(self) -> int | None:
        """The newer name wins."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


def error(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def usage(prompt: int, made: int) -> dict[str, int]:
    """Tokens of prompt and answer."""
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


class Form:
    """Shape of a request's answers, whole and in chunks."""

    def __init__(self, number: str, created: int, model: str, chat: bool, logprobs: bool, token: Any) -> None:
        """`token` turns a token id into its text."""
        self._head = {"id": number, "created": created, "model": model}
        self._chat, self._logprobs, self._token = chat, logprobs, token

    def whole(self, answers: Sequence[Sequence[Chunk]], prompt_tokens: int) -> dict[str, Any]:
        """The answer to a request that is not streamed."""
        choices = [self._choice(i, chunks) for i, chunks in enumerate(answers)]
        made = sum(len(chunk.tokens) for chunks in answers for chunk in chunks)
        name = "chat.completion" if self._chat else "text_completion"
        return {**self._head, "object": name, "choices": choices, "usage": usage(prompt_tokens, made)}

    def _choice(self, index: int, chunks: Sequence[Chunk]) -> dict[str, Any]:
        text, tokens = "".join(chunk.text for chunk in chunks), [t for chunk in chunks for t in chunk.tokens]
        body = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        return {"index": index, **body, "logprobs": self._told(tokens), "finish_reason": chunks[-1].finish}

    def beginning(self) -> Iterator[dict[str, Any]]:
        """Begin a stream: a chat's says who speaks."""
        if self._chat:
            yield self._chunk({"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None})

    def chunk(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """Write one chunk of a stream; none while text is kept back."""
        if chunk.text or chunk.finish or (self._logprobs and chunk.tokens):
            body: dict[str, Any] = {"text": chunk.text}
            if self._chat:
                body = {"delta": {"content": chunk.text} if chunk.text or not chunk.finish else {}}
            yield self._chunk({**body, "logprobs": self._told(chunk.tokens), "finish_reason": chunk.finish})

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        name = "chat.completion.chunk" if self._chat else "text_completion"
        return {**self._head, "object": name, "choices": [{"index": 0, **choice}]}

    def closing(self, prompt_tokens: int, made: int) -> dict[str, Any]:
        """The usage a stream closes with where it is asked for."""
        name = "chat.completion.chunk" if self._chat else "text_completion"
        return {**self._head, "object": name, "choices": [], "usage": usage(prompt_tokens, made)}

    def _told(self, tokens: Sequence[tuple[int, float | None]]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        texts = [self._token(number) for number, _ in tokens]
        if self._chat:
            content = [
                {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
                for text, (_, logprob) in zip(texts, tokens, strict=True)
            ]
            return {"content": content, "refusal": None}
        offsets = [0, *accumulate(map(len, texts))][:-1] if texts else []
        return {
            "tokens": texts,
            "token_logprobs": [logprob for _, logprob in tokens],
            "top_logprobs": None,
            "text_offset": offsets,
        }
