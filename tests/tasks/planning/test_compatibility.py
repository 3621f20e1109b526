"""Tables of architectures against the installed packages."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tasks.planning.compatibility import compatibility, has_module
from tasks.planning.matrix import architectures

# What FACTS says each framework did with mixtures of experts.
EXPERTS = [
    ("Qwen2MoeForCausalLM", "qwen2_moe", {"openvino", "llama.cpp", "mlx"}),
    ("MixtralForCausalLM", "mixtral", {"openvino", "llama.cpp", "mlx"}),
    ("OlmoeForCausalLM", "olmoe", {"llama.cpp", "mlx"}),
]


@pytest.mark.parametrize(("architecture", "model_type", "frameworks"), EXPERTS)
def test_mixtures_of_experts(architecture: str, model_type: str, frameworks: set[str]) -> None:
    found = compatibility(architecture, model_type, "causal-lm")
    assert {name for name, entry in found.items() if entry.ok} == frameworks
    assert all(entry.reason for entry in found.values())


def test_an_unknown_architecture_is_tried_where_the_list_is_open() -> None:
    found = compatibility("BrandNewForCausalLM", "brand_new", "causal-lm")
    assert {name: entry.ok for name, entry in found.items()} == {
        "openvino": True,
        "olive": False,
        "llama.cpp": True,
        "mlx": False,
    }
    assert found["openvino"].reason.endswith("not in the table of known architectures; conversion will be tried")
    assert found["olive"].reason == (
        "onnxruntime-genai 0.14 has no builder for BrandNewForCausalLM; try another framework"
    )


def test_mlx_is_asked_by_its_files_and_its_aliases() -> None:
    assert has_module("mlx_lm", "mistral").ok, "an alias of llama"
    assert not has_module("mlx_lm", "bert").ok
    assert has_module("no_such_package", "llama").reason.endswith("not checked; conversion will be tried")


def source_text(package: str, file: str) -> str:
    found = find_spec(package)
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / file).read_text()


def test_olives_closed_list_is_the_installed_builders() -> None:
    text = source_text("onnxruntime_genai", "models/builder.py")
    built = set(re.findall(r'config\.architectures\[0\] == "(\w+(?:ForCausalLM|Model))"', text))
    multimodal = {"Phi3VForCausalLM", "Phi4MMForCausalLM", "VideoChatFlashQwenForCausalLM"}
    assert set(architectures()["olive"]["causal-lm"].known) == built - multimodal


def test_llama_cpps_list_is_in_the_installed_converter() -> None:
    found = find_spec("conversion")
    assert found is not None
    assert found.origin is not None
    text = "".join(file.read_text() for file in Path(found.origin).parent.glob("*.py"))
    for modality in ("causal-lm", "text-encoder"):
        entry = architectures()["llama.cpp"][modality]
        assert [name for name in entry.known if f'"{name}"' not in text] == []
        assert [name for name in entry.unsupported if f'"{name}"' in text] == []
