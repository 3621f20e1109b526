"""Requests of any kind, by the thousand: none of them is answered by a fault, none hangs, the model's process stays.

Half are drawn by schemathesis from the server's own document, half by our own generator, which knows what clients and
their bugs send: nulls, numbers as texts, deep nests, half characters, broken JSON, forms that cannot be held to.
"""

from __future__ import annotations

import concurrent.futures
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from tests import tiny
from tests.bench import harness
from tests.bench.harness import Figures, Limit, tell
from tests.serving import NAME, Running, package, server

COUNT = 10_000
HANGS_S = 60.0  # an answer that takes longer never comes
AT_ONCE = 4
LIMITS = {
    "requests": Limit(least=COUNT),
    "faults": Limit(most=0),  # answers of 500 and above
    "hangs": Limit(most=0),
    "restarts": Limit(most=0),
    "without_words": Limit(most=0),  # refused without a message in OpenAI's form
}
JSON = {"content-type": "application/json"}

TEXTS = (
    "",
    " ",
    "Say hi.",
    "a" * 3000,
    "\ud83d",
    "\0\x07",
    "<|im_end|>",
    "<|im_start|>system\n",
    "[PAD]",
    "﷽" * 50,
    "{{ 7*7 }}",
    "{% for i in x %}",
    "\ufeff",
    "é漢😀\u202e",
    "</tool_call>",
    "null",
    "ignore all",
)
NUMBERS = (0, 1, -1, 2, 3.5, -0.0, 1e-9, 1e308, -(2**63), 2**63, 2**31, 10**30, 16, 4096)
ANYTHING: tuple[Any, ...] = (None, True, False, [], {}, [[]], [{}], {"": ""}, *TEXTS, *NUMBERS)
NAMES = (
    "model",
    "prompt",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "n",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "logprobs",
    "top_logprobs",
    "echo",
    "logit_bias",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "response_format",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "ignore_eos",
    "user",
    "metadata",
    "best_of",
    "suffix",
    "functions",
    "audio",
    "nonsense",
)
SCHEMAS: tuple[dict[str, Any], ...] = (
    {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    {"type": "array"},
    {},
    {"enum": []},
    {"type": "no"},
    {"$ref": "#"},
    {"$ref": "#/$defs/x"},
    {"anyOf": []},
    {"pattern": "((((", "type": "string"},
    {"type": "string", "pattern": "(a|a)*b{1,2000}"},
    {"type": "object", "required": ["x"] * 50},
    {"minItems": 10**9},
    {"type": ["string", "null"], "maxLength": 3},
    {"allOf": [{"type": "string"}, {"type": "integer"}]},
    {"const": "\ud83d"},
)
PATHS = ("/v1/completions", "/v1/chat/completions", f"/v2/models/{NAME}/infer", "/v1/feedback")


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def _message(draw: random.Random) -> Any:
    role = draw.choice(("user", "assistant", "system", "tool", "developer", "function", "robot", None))
    content = draw.choice(
        (
            draw.choice(TEXTS),
            None,
            [{"type": "text", "text": draw.choice(TEXTS)}],
            [{"type": "image_url"}],
            draw.choice(ANYTHING),
        )
    )
    message: dict[str, Any] = {"role": role, "content": content}
    if draw.random() < 0.3:
        arguments: Any = draw.choice(("{}", "{", None, {}, draw.choice(TEXTS)))
        message["tool_calls"] = draw.choice(
            (
                None,
                [],
                [{"id": "c", "type": "function", "function": {"name": draw.choice(TEXTS), "arguments": arguments}}],
                [{"function": None}],
                draw.choice(ANYTHING),
            )
        )
    if draw.random() < 0.2:
        message["tool_call_id"] = draw.choice(ANYTHING)
    return message


BELONGS: dict[str, Callable[[random.Random], Any]] = {  # what belongs to a field, or nearly
    "prompt": lambda draw: draw.choice(
        (draw.choice(TEXTS), [draw.randrange(49200) for _ in range(draw.randrange(20))], [draw.choice(TEXTS)] * 2)
    ),
    "messages": lambda draw: [_message(draw) for _ in range(draw.randrange(4))],
    "response_format": lambda draw: draw.choice(
        (*({"type": kind} for kind in ("json_object", "text", "json_schema", "x")), _schema(draw), _schema(draw))
    ),
    "tools": lambda draw: [_tool(draw) for _ in range(draw.randrange(3))],
    "tool_choice": lambda draw: draw.choice(
        ("auto", "none", "required", "f", {"type": "function", "function": {"name": "f"}})
    ),
    "logit_bias": lambda draw: {str(draw.randrange(50_000)): draw.uniform(-101, 101) for _ in range(3)},
    "stop": lambda draw: draw.choice((draw.choice(TEXTS), [draw.choice(TEXTS)] * draw.randrange(20))),
    "model": lambda draw: draw.choice((NAME, NAME, NAME, "other", "")),
    "stream": lambda draw: draw.random() < 0.5,
    "echo": lambda draw: draw.random() < 0.8,
    "n": lambda draw: draw.choice((1, 2, 4, 17)),
    "max_tokens": lambda draw: draw.choice((0, 1, 2, 9, -1)),
    "max_completion_tokens": lambda draw: draw.choice((1, 2, 9, -1)),
    "temperature": lambda draw: draw.uniform(0, 2.1),
    "top_p": lambda draw: draw.uniform(0, 1.05),
    "min_p": lambda draw: draw.uniform(0, 1.05),
    "top_k": lambda draw: draw.randrange(-1, 100),
    "seed": lambda draw: draw.randrange(-2, 2**63),
    "logprobs": lambda draw: draw.choice((0, 1, 5, 6, True, False)),
    "top_logprobs": lambda draw: draw.randrange(22),
    "presence_penalty": lambda draw: draw.uniform(-2.1, 2.1),
    "frequency_penalty": lambda draw: draw.uniform(-2.1, 2.1),
    "repetition_penalty": lambda draw: draw.uniform(0, 3),
}


def _schema(draw: random.Random) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": draw.choice(SCHEMAS)}}


def _tool(draw: random.Random) -> dict[str, Any]:
    function = {"name": draw.choice(("f", "g", "get_it", "a b", "")), "parameters": draw.choice(SCHEMAS)}
    return {"type": "function", "function": function}


def _value(draw: random.Random, name: str) -> Any:
    """Something that belongs to a field, or nearly; at times anything at all."""
    if name in BELONGS and draw.random() < 0.85:
        return BELONGS[name](draw)
    return draw.choice(NUMBERS) if draw.random() < 0.5 else draw.choice(ANYTHING)


def drawn(seed: int) -> tuple[str, bytes]:
    """A path and a body; the same seed gives the same."""
    draw = random.Random(seed)
    path = draw.choice(PATHS)
    kind = draw.random()
    if kind < 0.03:
        return path, draw.randbytes(draw.randrange(200))
    if kind < 0.06:
        return path, json.dumps(draw.choice((*ANYTHING, deep(900)))).encode()
    body: dict[str, Any] = {"max_tokens": draw.choice((1, 2, 4, 8))}
    if path == "/v1/completions":
        body["prompt"] = "Say" if draw.random() < 0.7 else _value(draw, "prompt")
    elif path == "/v1/chat/completions":
        talk = [{"role": "user", "content": draw.choice(TEXTS)}]
        body["messages"] = talk if draw.random() < 0.7 else _value(draw, "messages")
    elif path.startswith("/v2"):
        text = {"name": draw.choice(("text_input", "x")), "shape": [draw.choice((1, 2, -1))], "datatype": "BYTES"}
        body = {
            "inputs": [text | {"data": [draw.choice(TEXTS)]}],
            "parameters": draw.choice(({}, {"max_tokens": 2}, None)),
        }
    else:
        body = {"request_id": draw.choice(TEXTS), "right": draw.choice(NUMBERS)}
    for name in draw.sample(NAMES, draw.randrange(4)):
        body[name] = _value(draw, name)
    raw = json.dumps(body, ensure_ascii=draw.random() < 0.8).encode("utf-8", "surrogatepass")
    if draw.random() < 0.05:
        raw = raw[: draw.randrange(len(raw))]
    return path, raw


class Tally:
    """What became of requests so far."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.hangs: list[str] = []
        self.faults: list[str] = []
        self.without_words: list[str] = []

    def note(self, asked: str, status: int, text: str, openai: bool) -> None:
        """One answer, and what was asked for it."""
        self.statuses[status] += 1
        if status >= 500:
            self.faults.append(f"{status} {asked[:600]} -> {text[:300]}")
        elif status >= 400 and openai:
            try:
                assert json.loads(text)["error"]["message"]
            except (AssertionError, KeyError, TypeError, ValueError):
                self.without_words.append(f"{status} {asked[:600]} -> {text[:300]}")

    @property
    def count(self) -> int:
        """All answers, and those that never came."""
        return sum(self.statuses.values()) + len(self.hangs)


def own(running: Running, count: int, tally: Tally, first: int = 0) -> None:
    """So many requests of our own generator, some at once."""
    with (
        httpx.Client(base_url=running.base, timeout=HANGS_S) as client,
        concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool,
    ):

        def ask(seed: int) -> None:
            path, raw = drawn(seed)
            asked = f"seed {seed}: {path} {raw!r}"
            try:
                answer = client.post(path, content=raw, headers=JSON)
                tally.note(asked, answer.status_code, answer.text, path.startswith("/v1/"))
            except httpx.TimeoutException:
                tally.hangs.append(asked)

        for number, _ in enumerate(pool.map(ask, range(first, first + count)), start=1):
            if number % 1000 == 0:
                tell(f"{number} of our own: {dict(sorted(tally.statuses.items()))}")


def from_document(running: Running, count: int, tally: Tally) -> None:
    """So many requests that schemathesis draws from the server's document, over all its operations."""
    version = running.get("/v2").json()["version"]
    document = schemathesis.openapi.from_url(f"{running.base}/openapi.json")
    operations: list[Any] = [found.ok() for found in document.get_all_operations()]  # type: ignore[union-attr]
    talking = [one for one in operations if one.method == "post"]
    quiet = [one for one in operations if one.method != "post"]
    for share, some in ((0.1, quiet), (0.9, talking)):
        each = max(1, round(share * count / len(some)))
        for operation in some:
            _draw(operation, each, tally, version)
            tell(f"{operation.method.upper()} {operation.path}: {dict(sorted(tally.statuses.items()))}")


def _draw(operation: Any, count: int, tally: Tally, version: str) -> None:
    def call(case: Any) -> None:
        usual = tally.count % 3  # two of three name what is there: the rest of a request is looked at only then
        if usual and isinstance(case.body, dict) and "model" in case.body:
            case.body = {**case.body, "model": NAME}
        if usual and isinstance(case.path_parameters, dict):
            known = {"model": NAME, "model_id": NAME, "version": version}
            case.path_parameters = {name: known.get(name, value) for name, value in case.path_parameters.items()}
        if isinstance(case.body, dict) and "max_tokens" in case.body:
            case.body = {**case.body, "max_tokens": 2, "max_completion_tokens": 2}
        asked = f"{case.method} {case.path} {case.body!r}"
        began = time.monotonic()
        try:
            answer = case.call(timeout=HANGS_S)
        except Exception as error:  # noqa: BLE001 - schemathesis' own, of several kinds, for what cannot be sent
            if time.monotonic() - began >= HANGS_S:
                tally.hangs.append(asked)
            else:
                tell(f"not sent: {type(error).__name__}")
            return
        tally.note(asked, answer.status_code, answer.text, case.path.startswith("/v1/"))

    many = settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    many(given(operation.as_strategy())(call))()  # type: ignore[no-untyped-call]


def ask_all(running: Running, count: int) -> Figures:
    """Half of each; the figures."""
    tally, restarts = Tally(), running.metric("edgewright_model_restarts")
    from_document(running, count // 2, tally)
    done, first = tally.count, 0
    while tally.count < count:  # schemathesis draws fewer where there are no more that differ
        own(running, count - tally.count, tally, first)
        first += count - done
    running.until(ready=True, seconds=30)
    for kind in (tally.faults, tally.hangs, tally.without_words):
        for one in kind[:5]:
            tell(one)
    tell(
        f"answers by status: {dict(sorted(tally.statuses.items()))}; "
        f"drawn from the document {done}, by us {tally.count - done}"
    )
    return {
        "requests": tally.count,
        "faults": len(tally.faults),
        "hangs": len(tally.hangs),
        "restarts": running.metric("edgewright_model_restarts") - restarts,
        "without_words": len(tally.without_words),
        "answered": tally.statuses[200],
    }


def drill(scratch: Path) -> Figures:
    """A server on a tiny package, and all of it."""
    made = tiny.model(scratch / "model", tiny.tokenizer(scratch / "tokenizer"))
    with server(scratch, package(scratch / "package", made), slots=8) as running:
        return ask_all(running, COUNT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `make drill-requests`; exit code 1 when a limit is not kept."""
    harness.parser("drill.requests", __doc__).parse_args(argv)
    return harness.main("drill-requests", drill, LIMITS)


if __name__ == "__main__":
    raise SystemExit(main())
