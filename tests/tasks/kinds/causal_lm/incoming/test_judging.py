"""A checkpoint of another kind is named by its configuration alone, with what to do next."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.errors import ModelError
from tasks.kinds.causal_lm.incoming.judging import judge

KNOWN = ("LlamaForCausalLM", "GPT2LMHeadModel", "Phi3ForCausalLM")
LLAMA = {"architectures": ["LlamaForCausalLM"]}


@pytest.mark.parametrize(
    "config",
    [
        LLAMA,
        {"architectures": ["GPT2LMHeadModel"]},
        {"architectures": ["Phi3ForCausalLM"], "auto_map": {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}},
        LLAMA | {"quantization_config": {}},
        LLAMA | {"quantization_config": None},
    ],
)
def test_a_causal_language_model_is_taken(config: dict[str, Any]) -> None:
    judge(config, KNOWN, "mine")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, 'names no architecture; add "architectures"'),
        ({"architectures": []}, "names no architecture"),
        ({"architectures": [7]}, "names no architecture"),
        ({"architectures": ["BertForMaskedLM"]}, r"is a text encoder \(BertForMaskedLM\); taken here: \*ForCausalLM"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "is a classifier of texts"),
        ({"architectures": ["ViTForImageClassification"]}, "is an image classifier"),
        ({"architectures": ["LlamaModel"], "hidden_act": "silu"}, "saved without its output layer"),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, "is an encoder-decoder"),
        ({"architectures": ["LlavaForConditionalGeneration"], "vision_config": {}}, "reads pictures as well as text"),
        ({"architectures": ["MineForCausalLM"], "auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}},
         r"comes with code of its own \(modeling_mine.py\)"),
        ({"architectures": ["MineForCausalLM"]}, "is not known: transformers has no class for it"),
        *(
            (LLAMA | {"quantization_config": stated}, rf"is quantized already \({words}\).*base_model")
            for stated, words in (
                ({"quant_method": "gptq", "bits": 4}, "GPTQ, 4 bits"),
                ({"quant_method": "awq", "bits": 4}, "AWQ, 4 bits"),
                ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes, 4 bits"),
                ({"load_in_8bit": True}, "an unnamed method, 8 bits"),
                ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
                ({"quant_method": "fbgemm_fp8"}, "FP8"),
                ({"quant_method": "mxfp4"}, "MXFP4"),
                ({"quant_method": "of tomorrow"}, "of tomorrow"),
            )
        ),
        (LLAMA | {"quantization": {"group_size": 64, "bits": 4}}, r"is quantized already \(MLX, 4 bits\)"),
    ],
)  # fmt: skip
def test_another_kind_is_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        judge(config, KNOWN, "mine")
