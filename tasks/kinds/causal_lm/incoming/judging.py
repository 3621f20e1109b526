"""What a checkpoint is, judged from its configuration before anything is loaded: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.errors import ModelError

TEXT = ("ForCausalLM", "LMHeadModel")  # how architectures of causal language models end
OTHERS: tuple[tuple[str, str], ...] = (  # how others end, and what they are
    ("ForMaskedLM", "a text encoder"),
    ("ForSequenceClassification", "a classifier of texts"),
    ("ForTokenClassification", "a classifier of tokens"),
    ("ForQuestionAnswering", "a model that marks answers in a text"),
    ("ForMultipleChoice", "a classifier of texts"),
    ("ForImageClassification", "an image classifier"),
    ("ForSpeechSeq2Seq", "a speech recognizer"),
    ("ForCTC", "a speech recognizer"),
    ("RewardModel", "a reward model"),
    ("EncoderModel", "an encoder"),
)
QUANTIZED: Mapping[str, str] = {  # names of methods in quantization_config
    "gptq": "GPTQ", "awq": "AWQ", "bitsandbytes": "bitsandbytes", "compressed-tensors": "compressed-tensors",
    "fp8": "FP8", "fbgemm_fp8": "FP8", "finegrained_fp8": "FP8", "mxfp4": "MXFP4", "hqq": "HQQ", "aqlm": "AQLM",
    "quanto": "quanto", "torchao": "torchao", "eetq": "EETQ", "higgs": "HIGGS", "vptq": "VPTQ",
    "auto-round": "AutoRound", "bitnet": "BitNet", "modelopt": "ModelOpt",
}  # fmt: skip


def judge(config: Mapping[str, Any], known: Sequence[str], name: str) -> None:
    """Raise ModelError, with what to do next, for a checkpoint that is no unquantized causal language model.

    `config` is config.json's object; `known` are the architectures that transformers has a class of its own for;
    `name` is how the model is called.
    """
    _quantized(config, name)
    architecture = _architecture(config, name)
    if config.get("is_encoder_decoder"):
        raise ModelError(
            f"{name} is an encoder-decoder ({architecture}); causal language models (*ForCausalLM) are taken, as the "
            "runtimes here write from one stack of layers"
        )
    if "vision_config" in config or "audio_config" in config:
        raise ModelError(
            f"{name} reads {'pictures' if 'vision_config' in config else 'sound'} as well as text ({architecture}); "
            "give its language model saved alone (model.language_model, then save_pretrained); `edgewright advise "
            "FOLDER` says which frameworks carry the whole of it"
        )
    if not architecture.endswith(TEXT):
        what = next((words for ending, words in OTHERS if architecture.endswith(ending)), "no causal language model")
        hint = (
            "; a fine-tune saved without its output layer is loaded by AutoModelForCausalLM and saved again"
            if architecture.endswith("Model") and "hidden_act" in config
            else ""
        )
        raise ModelError(
            f"{name} is {what} ({architecture}); taken here: {', '.join(f'*{ending}' for ending in TEXT)}. Another "
            f"kind is named by fetch.kind{hint}"
        )
    if architecture not in known:
        code = config.get("auto_map")
        own = f"comes with code of its own ({', '.join(sorted(set(_modules(code))))})" if code else "is not known"
        raise ModelError(
            f"{name}: the architecture {architecture} {own}: transformers has no class for it, and what only one "
            "framework can run is not the same model in the others. Give it in an architecture that transformers has"
        )


def _quantized(config: Mapping[str, Any], name: str) -> None:
    """Refuse what is quantized already: each variant of it would be quantized twice."""
    stated = config.get("quantization_config")
    if isinstance(stated, Mapping) and stated:
        method = str(stated.get("quant_method", "")).lower().replace("_", "-")
        methods = {key.replace("_", "-"): words for key, words in QUANTIZED.items()}
        words = methods.get(method, str(stated.get("quant_method") or "an unnamed method"))
        bits = stated.get("bits") or (4 if stated.get("load_in_4bit") else 8 if stated.get("load_in_8bit") else None)
        told = f"{words}, {bits} bits" if isinstance(bits, int) else words
    elif isinstance(config.get("quantization"), Mapping):
        told = f"MLX, {config['quantization'].get('bits', 'some')} bits"
    else:
        return
    raise ModelError(
        f"{name} is quantized already ({told}): every variant would be quantized twice, and compared with what the "
        "first time left. Give the checkpoint that it was made from (see base_model in its README.md)"
    )


def _architecture(config: Mapping[str, Any], name: str) -> str:
    named = config.get("architectures")
    if isinstance(named, list) and named and isinstance(named[0], str):
        return named[0]
    raise ModelError(
        f'{name}: config.json names no architecture; add "architectures": ["LlamaForCausalLM"] or its like'
    )


def _modules(code: Any) -> list[str]:
    """Files of Python that `auto_map` names."""
    named = code.values() if isinstance(code, Mapping) else []
    texts = [one for value in named for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
    return [f"{text.split('--')[-1].split('.')[0]}.py" for text in texts]
