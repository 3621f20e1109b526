"""tasks/params/registered.py: each model has a name of its own, and the sample keeps its."""

from __future__ import annotations

import doctest
import re

import pytest

from tasks.params import registered
from tasks.params.registered import registered_name
from tests import factories


def test_examples() -> None:
    assert doctest.testmod(registered).failed == 0


@pytest.mark.parametrize(
    ("asked", "model", "name"),
    [
        ("auto", "sample", "edgewright-sample"),
        ("auto", "/models/My Model_v2/", "edgewright-my-model-v2"),
        ("auto", "models/tiny.Q4_K_M.gguf", "edgewright-tiny-q4-k-m"),
        ("auto", "org/Qwen2.5-0.5B", "edgewright-qwen2-5-0-5b"),
        ("auto", ".", "edgewright-model"),
        ("auto", "/", "edgewright-model"),
        ("mine", "/models/other", "mine"),
        ("edgewright-sample", "/models/other", "edgewright-sample"),  # asked for by name
    ],
)
def test_the_name_follows_the_model_unless_one_is_asked_for(asked: str, model: str, name: str) -> None:
    assert registered_name(asked, model) == name


@pytest.mark.parametrize("model", ["/models/sample", "org/Sample", "sample.gguf", "./sample"])
def test_no_other_model_has_the_name_of_the_sample(model: str) -> None:
    name = registered_name("auto", model)
    assert re.fullmatch(r"edgewright-sample-[0-9a-f]{8}", name) and name == registered_name("auto", model)


def test_parameters_know_it_and_it_is_auto_unless_told() -> None:
    assert factories.params().registered_name == "edgewright-sample"
    assert factories.params(fetch={"model": "/models/mine"}).registered_name == "edgewright-mine"
    assert factories.params(fetch={"model": "/models/mine"}, track={"model_name": "own"}).registered_name == "own"
