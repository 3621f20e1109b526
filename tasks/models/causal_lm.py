"""Language models: how a checkpoint becomes the fp32 reference, and its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks import gguf_file
from tasks.errors import ModelError
from tasks.models.source import check_gguf

# Strings on which a tokenizer rebuilt from a GGUF must agree with llama.cpp's own.
TOKENIZER_PROBES = (
    "Hello world 123",
    " two  spaces\n\nnewline 3.14 + 42 = ?",
    "naïve café — ünïcode 漢字 🙂",
    "def f(x):\n\treturn x ** 2",
)


def expand_gguf(gguf: Path, out: Path) -> None:
    """Write the GGUF's weights as an fp32 Hugging Face checkpoint with tokenizer into `out`; raises ModelError."""
    check_gguf(gguf)
    with gguf_file.shared():
        _weights_from_gguf(gguf, out)
        tokenizer_from_gguf(gguf, out)


def _weights_from_gguf(gguf: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise ModelError(f"{gguf.name}: transformers cannot read this GGUF architecture: {error}") from error
    config = loaded.config.to_dict()
    config.pop("quantization_config", None)  # else save_pretrained refuses dequantized weights
    config.pop("_model_name_or_path", None)
    fresh = AutoModelForCausalLM.from_config(type(loaded.config).from_dict(config), dtype=torch.float32)
    fresh.load_state_dict(loaded.state_dict())
    fresh.tie_weights()
    fresh.save_pretrained(out)


def tokenizer_from_gguf(gguf: Path, out: Path) -> None:
    """Write the GGUF's tokenizer into `out`, checked against llama.cpp's own token ids; raises ModelError.

    Special tokens and whether a beginning token is added come from the GGUF's metadata: what transformers infers
    for them can be wrong.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    fields = gguf_file.read(gguf).fields

    def metadata(key: str, default: Any = None) -> Any:
        return fields[key].contents() if key in fields else default

    tokens = metadata("tokenizer.ggml.tokens")
    rebuilt = json.loads(AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).backend_tokenizer.to_str())
    rebuilt["added_tokens"] = [t for t in rebuilt["added_tokens"] if t["id"] < len(tokens)]
    if metadata("tokenizer.ggml.model") == "gpt2":  # byte-level BPE; the rest that transformers adds is SentencePiece's
        byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
        rebuilt |= {"normalizer": None, "decoder": byte_level}
        rebuilt["model"] |= {"byte_fallback": False, "fuse_unk": False}
    if not metadata("tokenizer.ggml.add_bos_token", False):
        rebuilt["post_processor"] = None
    special = {
        name: tokens[metadata(f"tokenizer.ggml.{key}_token_id")]
        for name, key in (
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("unk_token", "unknown"),
            ("pad_token", "padding"),
        )
        if metadata(f"tokenizer.ggml.{key}_token_id") is not None
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(rebuilt)), **special)
    tokenizer.chat_template = metadata("tokenizer.chat_template")
    tokenizer.save_pretrained(out)
    _agree_with_llama_cpp(gguf, out)


def _agree_with_llama_cpp(gguf: Path, tokenizer_dir: Path) -> None:
    import llama_cpp
    from tokenizers import Tokenizer

    theirs = llama_cpp.Llama(str(gguf), vocab_only=True, verbose=False)
    ours = Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    for text in TOKENIZER_PROBES:
        expected = theirs.tokenize(text.encode(), add_bos=False, special=True)
        found = ours.encode(text, add_special_tokens=False).ids
        if expected != found:
            raise ModelError(
                f"{gguf.name}: the tokenizer rebuilt from it disagrees with llama.cpp on {text!r} "
                f"({found[:8]} instead of {expected[:8]}); give the original Hugging Face directory instead"
            )
    theirs.close()


def expand_directory(source: Path, out: Path, trust_remote_code: bool, revision: str | None = None) -> None:
    """Write the checkpoint at `source` (a folder or hub id) as fp32 safetensors with tokenizer into `out`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"trust_remote_code": trust_remote_code, "revision": revision or "main"}
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{source} cannot be loaded as a language model: {error}") from error
    if getattr(model.config, "quantization_config", None) is not None:
        raise ModelError(f"{source} is already quantized; give the original checkpoint")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
