"""Calls of tools: how a model is told of them, the form in which it writes a call, and calls read from its text."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tasks.kinds.causal_lm.grammar import checked, json_of

TOLD = """You may call tools. To call one, write nothing but a JSON object for each call, in this form:
<tool_call>
{{"name": "name of the tool", "arguments": {{...}}}}
</tool_call>
The tools, each with the JSON schema of its arguments:
{tools}"""


@dataclass(frozen=True)
class Tool:
    """A function that the caller offers, its arguments by a JSON schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    @property
    def stated(self) -> dict[str, Any]:
        """As OpenAI's API and chat templates have it."""
        told = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": told}


@dataclass(frozen=True)
class Tools:
    """What a request offers: the tools, and whether the answer may, must or must not call."""

    offered: tuple[Tool, ...] = ()
    must: bool = False  # call at least one
    several: bool = True  # in one answer


@dataclass(frozen=True)
class Call:
    """A call that a model wrote."""

    name: str
    arguments: str  # a JSON object


@dataclass(frozen=True)
class CallForm:
    """How a model writes a call: what stands before and after each, and what it calls the arguments."""

    before: str
    after: str
    arguments: Literal["arguments", "parameters"] = "arguments"

    @property
    def sign(self) -> str:
        """The text that a call is known by; none where it is a JSON object alone."""
        return self.before.strip()

    def grammar(self, tools: Tools) -> str:
        """The grammar of an answer that may or must call; raises DataError for arguments by no usable schema."""
        rules, names = [], [f"tool_{number}" for number in range(len(tools.offered))]
        for name, tool in zip(names, tools.offered, strict=True):
            head = f'{{"name": {json.dumps(tool.name)}, "{self.arguments}": '
            rules.append(f'{name}: {json.dumps(head)} {name}_arguments "}}" {_quoted(self.after)}')
            rules.append(f"{name}_arguments: {json_of(tool.parameters)}")
        any_of = f"({' | '.join(names)})"
        rules.append(f"call: {_quoted(self.before)} {any_of}")
        more = ' ("\\n" call)*' if tools.several and self.sign else ""
        if tools.must:
            rules.append(f"start: call{more}")
        elif self.sign:
            rest = self.before[len(self.sign) :]
            rules += [f"start: TEXT | heard {_quoted(rest)} {any_of}{more}", f"heard[lazy]: TEXT {_quoted(self.sign)}"]
            rules.append(r"TEXT: /(.|\n)*/")
        else:  # a call is an object and nothing else, so text is what begins otherwise
            rules += ["start: OTHER | call", r"OTHER: /([^{](.|\n)*)?/"]
        return checked("\n".join(rules) + "\n")

    def read(self, text: str) -> tuple[str, list[Call]]:
        """What an answer says, and its calls; what was cut off is no call, and stays in what it says if it is alone."""
        sign = self.sign
        at = text.find(sign) if sign else (0 if text.lstrip().startswith("{") else -1)
        if at < 0:
            return text, []
        calls, place, decoder = [], at, json.JSONDecoder()
        while (start := text.find("{", place)) >= 0:
            try:
                value, place = decoder.raw_decode(text, start)
            except ValueError:
                break
            if not isinstance(value, dict) or not isinstance(value.get("name"), str):
                break
            arguments = value.get(self.arguments, {})
            calls.append(Call(value["name"], json.dumps(arguments, ensure_ascii=False)))
            place = max(place, text.find(self.after, place) + len(self.after)) if self.after else place
            if sign and text.find(sign, place) < 0:
                break
        return (text[:at].rstrip(), calls) if calls else (text, [])


def _quoted(text: str) -> str:
    """A text in a grammar; nothing for none."""
    return json.dumps(text) if text else ""


TAGGED = CallForm("<tool_call>\n", "\n</tool_call>")
BARE = CallForm("", "", "parameters")


def form_of(template: str) -> CallForm:
    """The form that a chat template writes calls in; the tagged one for a template that knows none.

    >>> form_of("{{ '<tool_call>' }}") == form_of("{{ messages }}") == TAGGED
    True
    """
    if "<tool_call>" not in template and "tools" in template and '"parameters": ' in template:
        return BARE
    return TAGGED


def with_tools(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages with the tools, as stated, told by the first of them, for a template that does not know of tools."""
    told = TOLD.format(tools="\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools))
    first, rest = (messages[0], messages[1:]) if messages and messages[0]["role"] == "system" else (None, messages)
    text = f"{first['content']}\n\n{told}" if first else told
    return [{"role": "system", "content": text}, *rest]


def plain(message: Mapping[str, Any], form: CallForm) -> dict[str, Any]:
    """A message for a template that knows neither calls nor results: written out as the assistant's and a user's."""
    text = message.get("content") or ""
    calls = [
        json.dumps({"name": call["name"], form.arguments: call["arguments"]}, ensure_ascii=False)
        for call in map(_function, _calls(message))
    ]
    written = [f"{form.before}{call}{form.after}" for call in calls]
    role = {"tool": "user", "function": "user"}.get(message["role"], message["role"])
    return {"role": role, "content": "\n".join(filter(None, (text, *written)))}


def native(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message for a template that knows calls, their arguments as objects, as templates write them out themselves."""
    kept = {name: message[name] for name in ("role", "name", "tool_call_id") if message.get(name) is not None}
    calls = [
        {"type": "function", "function": _function(call), **({"id": str(call["id"])} if "id" in call else {})}
        for call in _calls(message)
    ]
    return {**kept, "content": message.get("content") or "", **({"tool_calls": calls} if calls else {})}


def _calls(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = message.get("tool_calls")
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _function(call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    function = function if isinstance(function, Mapping) else {}
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):  # what a model wrote is told as it is
            arguments = json.loads(arguments)
    return {"name": str(function.get("name", "")), "arguments": arguments}
