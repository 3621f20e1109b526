"""The lines that run a package, and what they need."""

from __future__ import annotations

import ast

import pytest

from tasks.backends.gguf import context
from tasks.backends.table import MODULES
from tasks.packaging import how_to_run

TUNED = {
    "openvino": {"KV_CACHE_PRECISION": "bf16", "threads": "half"},
    "onnx": {"session.intra_op.allow_spinning": "0"},
    "gguf": {"kv_cache": "q8_0", "n_ubatch": "128"},
}


@pytest.mark.parametrize("backend", TUNED)
def test_the_lines_run_it_with_the_settings_it_was_measured_with(backend) -> None:
    text = "\n".join(how_to_run.lines(backend, True, TUNED[backend]))
    assert all(value in text or name == "threads" or value == "q8_0" for name, value in TUNED[backend].items())
    assert "type_k=8" in text or backend != "gguf"


@pytest.mark.parametrize("tuned", [True, False])
@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("backend", MODULES)
def test_every_backend_has_lines_that_are_python_and_requirements(backend, chat: bool, tuned: bool) -> None:
    lines = how_to_run.lines(backend, chat, TUNED.get(backend, {}) if tuned else {})
    ast.parse("\n".join(lines))
    assert "print(" in lines[-1]
    assert any('"model' in line for line in lines)
    assert how_to_run.packages(backend)
    assert how_to_run.needed_files(backend)


@pytest.mark.parametrize("flash", [{}, *({"flash_attn": one} for one in context.SETTINGS["flash_attn"])])
@pytest.mark.parametrize("cache", [{}, *({"kv_cache": one} for one in context.SETTINGS["kv_cache"])])
def test_the_lines_for_llama_cpp_compute_attention_as_it_was_measured(
    flash: dict[str, str], cache: dict[str, str]
) -> None:
    text = "\n".join(how_to_run.lines("gguf", True, flash | cache))
    assert ("flash_attn=True" in text) == context.flash(flash | cache)


@pytest.mark.parametrize(
    ("version", "pinned"), [("2.13.0+cpu", "torch==2.13.0"), ("not installed", "torch"), ("", "torch")]
)
def test_pins_are_public_versions(version: str, pinned: str) -> None:
    assert how_to_run.pin("torch", version) == pinned
