"""What a test weighs: marks `model`, `server` and `slow` are put by what a test and its fixtures reach.

`make test-fast` leaves these out. Nobody has to think of the marks: who starts a server does so through the helpers
below, and who wants a model asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

FIXTURES = {"tiny_model": "model", "tokenizer_dir": "model"}  # the tokenizer is read out of the sample's file
HELPERS = {
    "tests.serving": "server",
    "tests.drill.rig": "server",
    "tests.drill.promotion": "server",
    "tasks.targets.triton.server": "server",
    "tests.pipelines": "slow",  # DVC and Prefect, and processes of their own
}


def marks(item: pytest.Function) -> set[str]:
    """Marks of one test, by the fixtures it asks for and the helpers it reaches, through other functions too."""
    definitions = [one for found in item._fixtureinfo.name2fixturedefs.values() for one in found]
    found = {FIXTURES[name] for name in item.fixturenames if name in FIXTURES}
    seen: set[int] = set()
    for work in (item.function, *(one.func for one in definitions)):
        found |= {HELPERS[module] for module in _reached(work, seen) if module in HELPERS}
    return found


def _reached(work: Any, seen: set[int]) -> Iterator[str]:
    """Modules whose names this function uses, directly or through other functions of the tests."""
    if not isinstance(work, FunctionType) or id(work) in seen:
        return
    seen.add(id(work))
    for name in _names(work.__code__):
        used = work.__globals__.get(name)
        module = used.__name__ if isinstance(used, ModuleType) else getattr(used, "__module__", None)
        if not isinstance(module, str):
            continue
        yield module
        if module not in HELPERS and (module == work.__module__ or module.startswith("tests.")):
            yield from _reached(getattr(used, "__wrapped__", used), seen)


def _names(code: CodeType) -> Iterator[str]:
    """Global names in a function, those in its inner functions too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
