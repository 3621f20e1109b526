"""The same request to both versions: some of the callers' asked again, and probes of our own; answers are compared."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import aiohttp

from tasks.kinds.base import Form
from tasks.params.serving import Promotion
from tasks.promotion.asking import WRITING, form_of, likeness, question
from tasks.promotion.evidence import MARK, Evidence, Kind
from tasks.promotion.rollout import Color, State
from tasks.promotion.slots import Server

PAIRS_AT_ONCE = 2


@dataclass(frozen=True)
class View:
    """The state and the two slots, which the router goes by."""

    state: State
    servers: Mapping[Color, Server]

    def base(self, color: Color) -> str | None:
        """A slot's URL while it may be asked."""
        return self.servers[color].base

    def version(self, color: Color) -> str:
        """Version that a slot serves."""
        return self.state.slot(color).version

    @property
    def form(self) -> Form:
        """What the champion reads, and with it whoever is to follow it."""
        return form_of(self.state.slot(self.state.champion).package)


class Pairs:
    """Comparisons under way, a few at a time, so that they take little from callers."""

    def __init__(
        self, view: Callable[[], View], evidence: Evidence, settings: Promotion,
        client: Callable[[], aiohttp.ClientSession], key: str | None,
    ) -> None:  # fmt: skip
        """Note what answers showed in `evidence`; `key` is the API key for probes of our own."""
        self._view, self._evidence, self._settings, self._client, self._key = view, evidence, settings, client, key
        self._tasks: set[asyncio.Task[None]] = set()
        self._dice = Random()  # noqa: S311 - a sample, not a secret
        self._probes = 0

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def mirror(self, path: str, body: bytes, authorization: str | None) -> None:
        """Ask both versions again what a caller asked, now and then, and compare."""
        view = self._view()
        if not _two(view) or len(self._tasks) >= PAIRS_AT_ONCE or self._dice.random() >= self._settings.mirror_share:
            return
        if view.form == "generation" and path not in WRITING:
            return  # drawn at random and as long as it was asked: no two answers are alike
        try:
            asked = json.loads(body)
        except ValueError:
            return
        if isinstance(asked, dict):
            self._begin("mirror", path, asked, authorization)

    def probe(self) -> None:
        """Ask both versions a question of our own."""
        view = self._view()
        if not _two(view) or len(self._tasks) >= PAIRS_AT_ONCE:
            return
        asked = question(view.form, self._probes)
        if asked is not None:
            self._probes += 1
            self._begin("probe", *asked, f"Bearer {self._key}" if self._key else None)

    def _begin(self, kind: Kind, path: str, asked: dict[str, Any], authorization: str | None) -> None:
        task = asyncio.create_task(self._pair(kind, path, asked, authorization))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pair(self, kind: Kind, path: str, asked: dict[str, Any], authorization: str | None) -> None:
        view, number = self._view(), f"{MARK[kind]}{uuid.uuid4().hex}"
        few = self._shortened(asked) if path in WRITING else asked
        headers = {"x-request-id": number} | ({"authorization": authorization} if authorization else {})
        order = [view.state.champion, view.state.challenger]
        if self._dice.random() < 0.5:  # who is asked second finds the machine as the first left it
            order.reverse()
        answers = {color: await self._asked(view, color, path, few, headers) for color in order}
        old, new = (answers[color] for color in (view.state.champion, view.state.challenger))
        if _refusal(old) or _refusal(new):
            return  # the request itself is not one to compare by, or the slot is full
        both = old[0] == new[0] == 200
        alike = likeness(path)
        agreement = alike(old[1], new[1]) if both and alike is not None else None
        self._evidence.add(number, view.version(view.state.champion), kind, old[0] == 200)
        self._evidence.add(number, view.version(view.state.challenger), kind, new[0] == 200, agreement)

    def _shortened(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """A request for text, for the likeliest words and few of them."""
        few = {name: value for name, value in asked.items() if name not in UNASKED}
        few |= {"temperature": 0, "max_tokens": self._settings.compare_tokens}
        few.pop("max_completion_tokens", None)
        return few

    async def _asked(
        self, view: View, color: Color, path: str, asked: Mapping[str, Any], headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """Status and body; status 0 when there was no answer, 429 when the slot may not be asked just now."""
        base = view.base(color)
        if base is None:
            return 429, b""
        try:
            async with self._client().post(f"{base}{path}", json=asked, headers=headers) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, b""


# Of a caller's request: what does not change the first answer, and an echo, in which both answers would be alike.
UNASKED = ("stream", "stream_options", "n", "user", "echo", "logprobs", "top_logprobs")


def _two(view: View) -> bool:
    return view.state.phase in ("shadow", "ramp", "ab") and bool(view.version(view.state.challenger))


def _refusal(answer: tuple[int, bytes]) -> bool:
    return 400 <= answer[0] < 500
