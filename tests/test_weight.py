"""Marks by weight: what reaches a helper that starts servers is marked, however many functions lie between."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests import weight

SOURCE = """
from contextlib import contextmanager
from tests import pipelines
from tests.serving import server, events

@contextmanager
def wrapped():
    with server(None, None) as one:
        yield one

def far():
    return wrapped()

def test_by_a_helper_of_a_helper():
    far()

def test_in_an_inner_function():
    def inner():
        return pipelines.command
    inner()

def test_recursive():
    test_recursive()

def test_light():
    assert sorted([2, 1]) == [1, 2]
"""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("test_by_a_helper_of_a_helper", {"tests.serving"}),
        ("test_in_an_inner_function", {"tests.pipelines"}),
        ("test_recursive", set()),
        ("test_light", set()),
    ],
)
def test_what_a_function_reaches(name: str, found: set[str]) -> None:
    module = ModuleType("made")
    exec(compile(SOURCE, "made.py", "exec"), module.__dict__)
    reached = set(weight._reached(getattr(module, name), set()))
    assert reached & set(weight.HELPERS) == found


def test_this_very_test_is_light_and_every_mark_is_known(request: pytest.FixtureRequest) -> None:
    assert weight.marks(request.node) == set()
    known = {line.partition(":")[0] for line in request.config.getini("markers")}
    assert {*weight.FIXTURES.values(), *weight.HELPERS.values()} <= known
