"""Chat templates: a program that came with the model, run in a sandbox with a limit on time, depth and size."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from tasks.errors import DataError, ModelError

SECONDS = 1.0  # a conversation may take to be written out; real templates take milliseconds
MOST = 2**24  # characters of a text, or elements of a list, that a template may put together at once
WIDEST = 10_000  # characters that a text may be filled up to
WIDE = re.compile(r"%[-+ #0]*(\*|\d{5,})|\{[^{}]*\d{5,}|\{[^{}]+\{")  # such a width in a form, or one told later
FILLING = ("center", "indent", "wordwrap", "truncate", "format", "batch", "slice")  # filters that take a width
TICK, JOIN = "_edgewright_tick", "_edgewright_join"


class ChatTemplate:
    """A conversation in the form that the model was trained on."""

    def __init__(self, source: str, special: Mapping[str, str], where: Path, seconds: float = SECONDS) -> None:
        """Parse `source`, which came from the folder `where`; `special`: texts of special tokens by name.

        Raises ModelError where it cannot be parsed.
        """
        self.source, self._special, self._seconds = source, special, seconds
        self._until = 0.0
        environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation])
        environment.filters |= {name: _bounded(environment.filters[name]) for name in FILLING}
        environment.filters["tojson"] = _tojson
        environment.globals.pop("lipsum")
        environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
        environment.globals |= {TICK: self._tick, JOIN: _joined}
        try:
            self._template = environment.from_string(_watched(environment, environment.parse(source)))
        except (TemplateError, RecursionError) as error:
            raise ModelError(f"the chat template in {where} cannot be read: {error}") from error

    def knows(self, name: str) -> bool:
        """Tell whether the template speaks of `name`, as `tools` or `tool_calls`."""
        return name in self.source

    def render(self, messages: Sequence[Mapping[str, Any]], ask: bool = True, tools: Sequence[Any] = ()) -> str:
        """The conversation as the template writes it; `ask`: with what makes the model answer.

        Raises DataError where it refuses the messages, fails at them, or does not come to an end.
        """
        self._until = time.monotonic() + self._seconds
        told: dict[str, Any] = {"messages": list(messages), "add_generation_prompt": ask, **self._special}
        try:
            return self._template.render(**told, **({"tools": list(tools)} if tools else {}))
        except TemplateError as error:
            raise DataError(f"the model's chat template refuses these messages: {error}") from error
        except Exception as error:  # the template may do anything
            said = f"{type(error).__name__}: {error}"
            raise DataError(f"the model's chat template cannot render these messages ({said})") from error

    def _tick(self) -> str:
        if time.monotonic() > self._until:
            raise TemplateError(f"it does not come to an end within {self._seconds:g} s")
        return ""


def read(folder: Path, config: Mapping[str, Any], special: Mapping[str, str]) -> ChatTemplate:
    """The template of a tokenizer's `folder`, of its own file or in its `config`; raises ModelError for none."""
    file, stated = folder / "chat_template.jinja", config.get("chat_template")
    if isinstance(stated, list):  # several by name
        stated = next((one["template"] for one in stated if one.get("name") == "default"), None)
    source = file.read_text(encoding="utf-8") if file.is_file() else stated
    if not isinstance(source, str):
        raise ModelError(f"{folder} holds no chat template")
    return ChatTemplate(source, special, folder)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which also lets no text or list grow beyond bounds."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call(self, context: Any, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls, unless it fills a text up to a width that no text has."""
        if isinstance(getattr(called, "__self__", None), str):
            _narrow("", args)
        return super().call(context, called, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Any:
        """Jinja's own form of a text's `format`, of which it is asked for each attribute."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _narrow(value.__self__, ())
        return wrapped

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute what is put together or repeated, unless it is too much."""
        if operator == "%" and isinstance(left, str):
            _narrow(left, ())
        if operator == "**":
            raise TemplateError("powers are not for chat templates")
        if operator == "+" and isinstance(left, str | list | tuple) and len(left) + _size(right) > MOST:
            raise TemplateError(f"it puts together more than {MOST} characters")
        if operator == "*" and _size(left) * (right if isinstance(right, int) else _size(right)) > MOST:
            raise TemplateError(f"it repeats to more than {MOST} characters")
        return super().call_binop(context, operator, left, right)


def _narrow(form: str, given: Sequence[Any]) -> None:
    """Refuse widths beyond any text's, in a form that is filled in or among what a filter or a method is given."""
    if WIDE.search(form) or any(isinstance(one, int) and one > WIDEST for one in given):
        raise TemplateError(f"it fills a text up to more than {WIDEST} characters")


def _bounded(kind: Any) -> Any:
    @functools.wraps(kind)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        _narrow("", [*args, *kwargs.values()])
        return kind(*args, **kwargs)

    return bounded


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else value if isinstance(value, int) else 1


def _joined(*parts: Any) -> str:
    texts = [str(part) for part in parts if part is not missing]
    if sum(map(len, texts)) > MOST:
        raise TemplateError(f"it puts together more than {MOST} characters")
    return "".join(texts)


def _watched(environment: _Sandbox, tree: nodes.Template) -> nodes.Template:
    """The template with a look at the clock in each turn of a loop and each call of a macro."""

    def called(name: str, given: list[nodes.Expr], line: int) -> nodes.Call:
        call = nodes.Call(nodes.Name(name, "load"), given, [], None, None)
        return call.set_lineno(line, override=True).set_environment(environment)  # type: ignore[return-value]

    for one in list(tree.find_all(nodes.Concat)):
        one.nodes = [called(JOIN, list(one.nodes), one.lineno)]
    for loop in tree.find_all(nodes.For):
        if loop.test is not None:  # asked of each element, also where none is taken
            look = nodes.Not(called(TICK, [], loop.lineno)).set_lineno(loop.lineno).set_environment(environment)
            loop.test = nodes.And(look, loop.test).set_lineno(loop.lineno).set_environment(environment)
    places: list[Any] = [*tree.find_all(nodes.For), *tree.find_all(nodes.Macro), *tree.find_all(nodes.CallBlock)]
    for place in places:
        look = nodes.Output([called(TICK, [], place.lineno)])
        place.body.insert(0, look.set_lineno(place.lineno).set_environment(environment))
    return tree


class Generation(Extension):
    """Templates mark what the assistant says by a `generation` block; here its content is all that counts."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        """The nodes inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(why: str) -> None:
    raise TemplateError(why)


def _tojson(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
