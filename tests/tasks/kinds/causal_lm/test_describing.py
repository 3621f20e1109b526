"""Model profiles from tiny checkpoints: parameters, memory, modality, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tasks.errors import ModelError
from tasks.kinds.causal_lm.describing import describe, memory_mb, modality_of
from tasks.kinds.causal_lm.weights import Weights, count
from tasks.planning.compatibility import compatibility
from tasks.records.base import Support
from tasks.records.model import ModelProfile
from tasks.sources.files import Source
from tasks.sources.safetensors import tensors

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "vocab_size": 100,
    "tie_word_embeddings": True,
}
LLAMA_SHAPES = {
    "model.embed_tokens.weight": (100, 64),
    "model.layers.0.self_attn.q_proj.weight": (64, 64),
    "model.layers.0.self_attn.k_proj.weight": (32, 64),
    "model.layers.0.mlp.down_proj.weight": (64, 96),
    "model.norm.weight": (64,),
}
GPT2 = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4}
GPT2 |= {"n_positions": 64, "vocab_size": 50}
GPT2_SHAPES: dict[str, tuple[int, ...]] = {
    "wte.weight": (50, 32),
    "wpe.weight": (64, 32),
    "h.0.attn.bias": (1, 1, 64, 64),  # a mask
    "h.0.attn.c_attn.weight": (32, 96),  # stored input x output
    "h.0.attn.c_attn.bias": (96,),
    "h.0.mlp.c_proj.weight": (128, 32),
}


def checkpoint(
    folder: Path, config: dict[str, Any], shapes: dict[str, tuple[int, ...]], dtype: Any = np.float32
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: np.zeros(shape, dtype) for name, shape in shapes.items()}, folder / "model.safetensors")
    return folder


def known(model: ModelProfile) -> dict[str, Support]:
    return compatibility(model.architecture, model.model_type, model.modality)


def test_a_llama(tmp_path: Path) -> None:
    model = describe(checkpoint(tmp_path / "tiny", LLAMA, LLAMA_SHAPES))
    assert model.parameters == 100 * 64 + 64 * 64 + 32 * 64 + 64 * 96 + 64
    assert (model.architecture, model.modality, model.dtype) == ("LlamaForCausalLM", "causal-lm", "float32")
    assert (model.layers, model.hidden_size, model.heads, model.kv_heads, model.head_dim) == (1, 64, 4, 2, 16)
    assert (model.vocabulary, model.context_length, model.tied_embeddings) == (100, 128, True)
    assert model.linear_input_sizes == (64, 96)
    assert model.size_mb == pytest.approx(model.parameters * 4 / 1e6, abs=0.002)
    assert model.name == "tiny"
    assert "without source.json" in model.origin
    assert all(support.ok for support in known(model).values())


def test_source_json_names_the_model(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, LLAMA, LLAMA_SHAPES)
    Source(name="Tiny", source="hub/tiny", origin="the hub", sha256="ab").write(folder / "source.json")
    model = describe(folder)
    assert (model.name, model.source, model.origin, model.sha256) == ("Tiny", "hub/tiny", "the hub", "ab")


def test_gpt2_has_other_names_transposed_layers_and_masks(tmp_path: Path) -> None:
    model = describe(checkpoint(tmp_path, GPT2, GPT2_SHAPES))
    assert model.parameters == 50 * 32 + 64 * 32 + 32 * 96 + 96 + 128 * 32, "the mask is no parameter"
    assert model.linear_input_sizes == (32, 128)
    assert (model.layers, model.heads, model.kv_heads, model.head_dim, model.context_length) == (2, 4, 4, 8, 64)
    assert model.tied_embeddings, "no lm_head is stored"
    assert not known(model)["olive"].ok
    assert known(model)["llama.cpp"].ok


@pytest.mark.parametrize(("tied", "parameters"), [(True, 6400 + 4096), (False, 2 * 6400 + 4096)])
def test_a_tied_output_layer_counts_once(tmp_path: Path, tied: bool, parameters: int) -> None:
    shapes = {"model.embed_tokens.weight": (100, 64), "lm_head.weight": (100, 64), "q_proj.weight": (64, 64)}
    model = describe(checkpoint(tmp_path, LLAMA | {"tie_word_embeddings": tied}, shapes))
    assert (model.parameters, model.tied_embeddings) == (parameters, tied)


def test_qwen3_and_gemma_keep_their_own_head_width(tmp_path: Path) -> None:
    model = describe(checkpoint(tmp_path, LLAMA | {"head_dim": 128}, LLAMA_SHAPES))
    assert model.head_dim == 128


def test_a_text_part_is_read_in_place_of_the_whole(tmp_path: Path) -> None:
    inner = {key: value for key, value in LLAMA.items() if key != "architectures"}
    config = {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3", "text_config": inner}
    model = describe(checkpoint(tmp_path, config, LLAMA_SHAPES))
    assert (model.architecture, model.hidden_size, model.layers) == ("Gemma3ForCausalLM", 64, 1)


def test_stacked_experts_count_both_sides(tmp_path: Path) -> None:
    mixtral = LLAMA | {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral"}
    model = describe(checkpoint(tmp_path, mixtral, {"embed.weight": (100, 64), "experts.gate_up_proj": (4, 192, 64)}))
    assert model.linear_input_sizes == (64, 192)
    support = known(model)
    assert {name: entry.ok for name, entry in support.items()} == {
        "openvino": True,
        "olive": False,
        "llama.cpp": True,
        "mlx": True,
    }


def test_an_encoder_and_a_classifier_have_no_cache(tmp_path: Path) -> None:
    bert = LLAMA | {"architectures": ["BertModel"], "model_type": "bert"}
    model = describe(checkpoint(tmp_path / "bert", bert, LLAMA_SHAPES))
    assert (model.modality, model.tied_embeddings) == ("text-encoder", False)
    assert model.memory_mb["fp32"] == round(model.parameters * 4 / 1e6, 1)
    assert known(model)["mlx"].reason == "mlx-lm has no text encoders"
    vit = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "hidden_size": 64}
    image = describe(
        checkpoint(tmp_path / "vit", vit, {"vit.patch.weight": (64, 3, 4, 4), "classifier.weight": (10, 64)})
    )
    assert (image.modality, image.context_length, image.parameters) == ("image-classifier", 0, 64 * 48 + 640)
    assert [name for name, entry in known(image).items() if entry.ok] == ["openvino", "olive"]


def tiny(name: str) -> Any:
    """A random model of transformers' own making, of the architecture `name`."""
    import transformers

    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    words = {"vocab_size": 128, "num_key_value_heads": 2}
    configs: dict[str, Any] = {
        "GPT2LMHeadModel": ("GPT2Config", {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 128}),
        "Qwen2MoeForCausalLM": (
            "Qwen2MoeConfig",
            {**sizes, **words, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 48, "num_experts": 4},
        ),
        "Gemma3ForCausalLM": ("Gemma3TextConfig", {**sizes, **words, "head_dim": 16}),
        "BertModel": ("BertConfig", {**sizes, "vocab_size": 128}),
        "ViTForImageClassification": ("ViTConfig", sizes),
    }
    config, values = configs[name]
    return getattr(transformers, name)(getattr(transformers, config)(**values))


# Input widths as PyTorch's Linear modules and, where there are some, the stacked experts have them.
REAL = [
    ("GPT2LMHeadModel", "causal-lm", (64, 256)),
    ("Qwen2MoeForCausalLM", "causal-lm", (32, 48, 64)),
    ("Gemma3ForCausalLM", "causal-lm", (64, 96)),
    ("BertModel", "text-encoder", (64, 96)),
    ("ViTForImageClassification", "image-classifier", (64, 96)),
]


@pytest.mark.parametrize(("architecture", "modality", "widths"), REAL)
def test_counts_agree_with_pytorch(tmp_path: Path, architecture: str, modality: str, widths: tuple[int, ...]) -> None:
    network = tiny(architecture)
    network.save_pretrained(tmp_path)
    model = describe(tmp_path)
    assert model.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert (model.architecture, model.modality) == (architecture, modality)
    assert model.linear_input_sizes == widths


def test_memory_follows_the_formula() -> None:
    weights = Weights(
        linear=1_000_000, embedding=500_000, other=1_000, dtype="float32", size_bytes=0, input_sizes=(), tied=True
    )
    found = {name: memory_mb(weights, name, 2_000_000) for name in ("fp32", "bf16", "int8", "int4")}
    assert found == {
        "fp32": round(1.501 * 4 + 2, 1),
        "bf16": round(1.501 * 2 + 2, 1),
        "int8": round(1.5 * 8.5 / 8 + 0.002 + 2, 1),
        "int4": round((1.0 * 4.5 + 0.5 * 8.5) / 8 + 0.002 + 2, 1),
    }


@given(linear=st.integers(0, 10**10), embedding=st.integers(0, 10**9), other=st.integers(0, 10**7))
def test_fewer_bits_never_need_more_memory(linear: int, embedding: int, other: int) -> None:
    weights = Weights(linear, embedding, other, "float32", 0, (), True)
    fp32, bf16, int8, int4 = (memory_mb(weights, name, 0) for name in ("fp32", "bf16", "int8", "int4"))
    assert fp32 >= bf16 >= int8 >= int4


BROKEN = [
    ({}, "names no architecture"),
    ({"architectures": ["T5ForConditionalGeneration"]}, r"allowed: \*ForCausalLM"),
    ({"architectures": ["CLIPModel"], "vocab_size": 5, "vision_config": {}}, "no causal language model"),
    ({"architectures": ["LlamaForCausalLM"]}, "gives no size"),
]


@pytest.mark.parametrize(("config", "words"), BROKEN)
def test_configurations_that_are_refused(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        describe(checkpoint(tmp_path, config, LLAMA_SHAPES))


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json; run the fetch stage"):
        describe(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="is not JSON"):
        describe(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    with pytest.raises(ModelError, match=r"has no \*\.safetensors"):
        describe(tmp_path)
    checkpoint(tmp_path, LLAMA, LLAMA_SHAPES)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ModelError, match="truncated or damaged"):
        describe(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"PK\x03\x04 not weights at all")
    with pytest.raises(ModelError, match="not a safetensors file"):
        describe(tmp_path)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}\.weight", fullmatch=True),
        st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
        min_size=1,
        max_size=5,
    )
)
def test_headers_give_back_every_shape(tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, Any]) -> None:
    folder = checkpoint(tmp_path_factory.mktemp("weights"), {}, shapes, np.float16)
    assert {tensor.name: tensor.shape for tensor in tensors(folder / "model.safetensors")} == shapes
    weights = count(folder, {"tie_word_embeddings": False})
    assert weights.parameters == sum(int(np.prod(shape)) for shape in shapes.values())
    assert weights.dtype == "float16"


@pytest.mark.parametrize(
    ("architecture", "config", "modality"),
    [
        ("Qwen3ForCausalLM", {}, "causal-lm"),
        ("GPT2LMHeadModel", {}, "causal-lm"),
        ("MPNetModel", {"vocab_size": 5}, "text-encoder"),
        ("RobertaForMaskedLM", {"vocab_size": 5}, "text-encoder"),
        ("ResNetForImageClassification", {}, "image-classifier"),
    ],
)
def test_modality(architecture: str, config: dict[str, Any], modality: str) -> None:
    assert modality_of(architecture, config) == modality
