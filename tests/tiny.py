"""A tiny model with the sample's tokenizer, for tests and drills that ask how things go and not what is said."""

from __future__ import annotations

import shutil
from pathlib import Path


def tokenizer(out: Path) -> Path:
    """The sample's tokenizer as fetch writes it, in the folder `out`."""
    from tasks.kinds.causal_lm.incoming.gguf_tokenizer import write_tokenizer
    from tasks.sources.files import sample_path

    out.mkdir(parents=True, exist_ok=True)
    write_tokenizer(sample_path(), out)
    return out


def model(out: Path, tokens: Path) -> Path:
    """A two-layer Llama with random weights large enough that its predictions are peaked, so that errors show."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0}, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(out)
    for file in tokens.iterdir():
        shutil.copy2(file, out / file.name)
    return out
