"""The OpenAI form of requests: what is taken, and what is refused by name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.backends.sampling import Sampling
from tasks.kinds.causal_lm import grammar
from tasks.kinds.causal_lm.calling import CallForm, Tool, Tools

TokenIds = list[Annotated[int, Field(ge=0)]]
StopSequence = Annotated[str, Field(max_length=1024)]
MOST_STOPS, MOST_CHOICES, MOST_BIASES, MOST_TOOLS = 16, 16, 1024, 64
# What other servers do and this one does not: refused where a request asks for it, rather than left out unsaid.
UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {  # field -> values that ask for nothing
    "best_of": (1,),
    "suffix": ("",),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "audio": (),
    "modalities": (["text"],),
    "repeat_penalty": (1,),
    "typical_p": (1,),
    "mirostat": (0,),
    "dry_multiplier": (0,),
    "xtc_probability": (0,),
    "no_repeat_ngram_size": (0,),
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "stop_token_ids": ([],),
    "prompt_logprobs": (),
    "truncate_prompt_tokens": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": (),
    "json_schema": (),
    "grammar": ("",),
    "continue_final_message": (False,),
}
INSTEAD = {  # what this server calls it
    "functions": "tools", "function_call": "tool_choice", "repeat_penalty": "repetition_penalty",
    "guided_json": "response_format", "json_schema": "response_format", "structured_outputs": "response_format",
    "prompt_logprobs": "echo with logprobs",
}  # fmt: skip

LEAST_TOP_P = 1e-6  # the likeliest token alone, which 0 means


class StreamOptions(BaseModel):
    include_usage: bool | None = False


class SchemaFormat(BaseModel):
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class ResponseFormat(BaseModel):
    """What form an answer has; it is always held to, whether `strict` is set or not."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None

    @model_validator(mode="after")
    def _whole(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema is missing")
        return self

    def grammar(self) -> str:
        """The grammar of the answer, none for text; raises DataError for a schema that cannot be held to."""
        if self.json_schema is not None and self.type == "json_schema":
            return grammar.whole(self.json_schema.schema_)
        return grammar.whole({"type": "object"}) if self.type == "json_object" else ""


class Request(BaseModel):
    """What completions and chat completions have in common; further fields are taken as OpenAI's clients send them."""

    model_config = ConfigDict(extra="allow")

    model: str = ""
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] = 1.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logit_bias: Annotated[
        dict[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=-100, le=100)]], Field(max_length=MOST_BIASES)
    ] = {}
    response_format: ResponseFormat | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None  # more than there is room for gives what there is
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
        unset = {name for name in ("seed", "max_tokens", "max_completion_tokens", "top_k") if given.get(name) == -1}
        return {name: value for name, value in given.items() if value is not None and name not in unset}

    @model_validator(mode="after")
    def _supported(self) -> Request:
        for name, value in (self.model_extra or {}).items():
            if name in UNSUPPORTED and value not in UNSUPPORTED[name]:
                other = f"use {INSTEAD[name]}" if name in INSTEAD else "leave it out"
                raise ValueError(f"{name} is not supported by this server; {other}")
        if self.max_tokens == 0 and not self.echoes:
            raise ValueError("max_tokens is 0, and nothing is to be echoed; at least 1")
        if self.ignore_eos and self.response_format is not None and self.response_format.type != "text":
            raise ValueError("ignore_eos goes on past an end that response_format sets; leave one of them out")
        return self

    @property
    def echoes(self) -> bool:
        """Tell whether the prompt comes before the answer."""
        return False

    @property
    def most_likely(self) -> int:
        """How many of the likeliest tokens are told beside each one."""
        return 0

    def sampling(self, form: str) -> Sampling:
        """Settings by which the answer is drawn; `form`: its grammar, none for any text."""
        return Sampling(
            temperature=self.temperature,
            top_p=max(self.top_p, LEAST_TOP_P),
            seed=self.seed,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            bias=tuple(sorted(self.logit_bias.items())),
            top=self.most_likely,
            grammar=form,
        )

    def grammar(self) -> str:
        """The grammar of the answer, none for any text; raises DataError for one that cannot be held to."""
        return "" if self.response_format is None else self.response_format.grammar()

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
    echo: bool = False

    @property
    def echoes(self) -> bool:
        """Tell whether the prompt comes before the answer."""
        return self.echo

    @property
    def most_likely(self) -> int:
        """How many of the likeliest tokens are told beside each one."""
        return self.logprobs or 0

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
    def told(self) -> dict[str, Any]:
        """The message as `Text.converse` takes it: its content as text, None where it has none."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())
        extra = {name: (self.model_extra or {}).get(name) for name in ("tool_calls", "tool_call_id", "name")}
        role = {"developer": "system", "function": "tool"}.get(self.role, self.role)
        return {"role": role, "content": text, **{name: value for name, value in extra.items() if value is not None}}


class Function(BaseModel):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolOffer(BaseModel):
    type: Literal["function"]
    function: Function


class NamedFunction(BaseModel):
    name: str


class NamedTool(BaseModel):
    type: Literal["function"]
    function: NamedFunction


class ChatRequest(Request):
    """/v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    tools: Annotated[list[ToolOffer], Field(max_length=MOST_TOOLS)] = []
    tool_choice: Literal["none", "auto", "required"] | NamedTool = "auto"
    parallel_tool_calls: bool = True

    @model_validator(mode="before")
    @classmethod
    def _no_echo(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("echo"):
            raise ValueError("echo is of /v1/completions")
        return given

    @model_validator(mode="after")
    def _agree(self) -> ChatRequest:
        names = [tool.function.name for tool in self.tools]
        if len(set(names)) != len(names):
            raise ValueError("two tools have the same name")
        wanted = self.tool_choice
        if isinstance(wanted, NamedTool) and wanted.function.name not in names:
            raise ValueError(f"tool_choice names {wanted.function.name}, which is none of the tools")
        if wanted == "required" and not names:
            raise ValueError("tool_choice is required, and there are no tools")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs is told only with logprobs: true")
        if self.offer.offered and (self.ignore_eos or (self.response_format and self.response_format.type != "text")):
            raise ValueError(
                "an answer that may call tools has a form already; leave response_format and ignore_eos out"
            )
        return self

    @field_validator("messages")
    @classmethod
    def _ends_with_a_question(cls, messages: list[Message]) -> list[Message]:
        if messages[-1].role == "assistant":
            raise ValueError("the last message is the assistant's own; there is nothing to answer")
        return messages

    @property
    def most_likely(self) -> int:
        """How many of the likeliest tokens are told beside each one."""
        return self.top_logprobs

    @property
    def offer(self) -> Tools:
        """The tools that the answer may call, and whether it must; none where it must not."""
        wanted = self.tool_choice
        if wanted == "none":
            return Tools()
        name = wanted.function.name if isinstance(wanted, NamedTool) else None
        return Tools(
            offered=tuple(
                Tool(one.name, one.description or "", one.parameters or {"type": "object"})
                for one in (tool.function for tool in self.tools)
                if name in (None, one.name)
            ),
            must=wanted != "auto",
            several=self.parallel_tool_calls and name is None,
        )

    def form(self, calls: CallForm) -> str:
        """The grammar of the answer; `calls`: how the model writes them."""
        return calls.grammar(self.offer) if self.offer.offered else self.grammar()

    @property
    def most_tokens(self) -> int | None:
        """The newer name wins."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
