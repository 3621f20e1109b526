"""Kinds of targets by name, what they take, and what is refused."""

from __future__ import annotations

import pytest

from tasks.errors import ConfigError
from tasks.targets import table
from tests import factories as make

TOY_BACKEND = "tests.tasks.toy_backend"


@pytest.mark.parametrize(("kind", "backend", "family", "ok", "words"), [
    (None, TOY_BACKEND, "arrays", True, "no kind of target restricts it"),
    ("host-server", "gguf", "tokens", True, "the server has an engine of gguf"),
    ("kubernetes", "openvino", "tokens", True, "the server has an engine of openvino"),
    ("host-server", "openvino", "arrays", True, "the server has an engine of openvino"),
    ("host-server", "mlx", "arrays", False, "which runs no arrays"),
    ("kubernetes", TOY_BACKEND, "tokens", False, "which runs no tokens"),
    ("tests.tasks.toy_target", "gguf", "tokens", True, "the firmware reads gguf"),
    ("tests.tasks.toy_target", "onnx", "tokens", False, "the firmware reads gguf, not onnx"),
])  # fmt: skip
def test_what_a_kind_takes(kind: str | None, backend: str, family: str, ok: bool, words: str) -> None:
    target = table.target(kind, "mine", "host")
    found = target.accepts(make.profile(family=family), make.recipe(backend=backend))
    assert (target.name, target.device) == ("mine", "host")
    assert found.ok is ok and words in found.reason


@pytest.mark.parametrize(("kind", "words"), [
    ("host-servr", "targets.mine.kind: 'host-servr' is not known; did you mean 'host-server'? allowed: host-server, "),
    ("zzz", "is not known; allowed: host-server, kubernetes, ios"),
    ("tests.tasks.no_such", "targets.mine.kind: 'tests.tasks.no_such': there is no such module"),
    ("no_such_package.at.all", "there is no such module"),
    ("tests.tasks", "is no kind of target: it lacks target(name, device)"),
])  # fmt: skip
def test_a_kind_that_is_not_there_is_refused(kind: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        table.target(kind, "mine", "host")
    assert words in str(caught.value)
