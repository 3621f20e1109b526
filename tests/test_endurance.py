"""Soak and stress on sessions made for it: answers that drift apart are told, a soak notes latency and memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from tasks.measure.endurance import SOAK_TOKENS, _long, at_once, soak

PROMPTS = [[1, 2], [3, 4], [5, 6], [7, 8]]


class Plain:
    def generate(self, ids: Sequence[int], new_tokens: int, on_token: Callable[[int], None] | None = None) -> list[int]:
        time.sleep(0.001)
        return [sum(ids) + i for i in range(new_tokens)]


class Crossed(Plain):
    """Answers otherwise as soon as another of its kind is at work."""

    busy = 0
    gate = threading.Lock()

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: Callable[[int], None] | None = None) -> list[int]:
        with self.gate:
            type(self).busy += 1
        time.sleep(0.01)
        made = [sum(ids) + type(self).busy] * new_tokens
        time.sleep(0.01)
        with self.gate:
            type(self).busy -= 1
        return made


def test_a_soak_notes_every_request() -> None:
    found = soak(Plain(), PROMPTS, 0.1)  # type: ignore[arg-type]
    assert len(found["latency_ms"]) == len(found["rss_mb"]) > 10
    assert min(found["latency_ms"]) >= 1.0
    assert SOAK_TOKENS > 1


def test_callers_that_do_not_disturb_each_other_pass() -> None:
    assert at_once([Plain(), Plain()], PROMPTS) == []  # type: ignore[list-item]


def test_callers_that_share_state_are_found_out() -> None:
    [said] = at_once([Crossed(), Crossed()], PROMPTS)  # type: ignore[list-item]
    assert "2 callers at once differ" in said


def test_a_caller_that_breaks_is_an_error_of_its_own() -> None:
    class Broken(Plain):
        def generate(self, *_: object) -> list[int]:
            raise RuntimeError("out of buffers")

    with pytest.raises(RuntimeError, match="out of buffers"):
        at_once([Plain(), Broken()], PROMPTS)  # type: ignore[list-item]


def test_a_long_prompt_is_put_together_to_its_length() -> None:
    seen: list[int] = []

    class Noting(Plain):
        def generate(self, ids: Sequence[int], new_tokens: int, *_: object) -> list[int]:
            seen.append(len(ids))
            return [0] * new_tokens

    assert _long(Noting(), [[1, 2, 3], [4, 5]], 17)  # type: ignore[arg-type]
    assert seen == [17]
