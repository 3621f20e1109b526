"""A second language model beside the sample: another architecture, trained here on GSM8K's texts for some minutes.

Small, but no random one: its predictions are of words that it learnt, so that what rounding loses of them is told.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests import tiny

SEED, SECONDS, ROWS, TOKENS, RATE = 17, 240.0, 8, 128, 3e-3
NAME = "small-qwen2"


def network() -> Any:
    """A Qwen2 of six layers, untrained: biases in its attention, which the sample's Llama lacks."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(SEED)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=49152, hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6,
            num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=1,
            eos_token_id=2, pad_token_id=0,
        )
    )  # fmt: skip


def write(out: Path, seconds: float = SECONDS) -> Path:
    """Train for so long and write a Hugging Face folder to `out`; what it learns depends on the machine's speed."""
    import torch
    from transformers import AutoTokenizer

    from tasks.kinds.reading import GSM8K, read_rows

    words = tiny.tokenizer(out)
    tokenizer = AutoTokenizer.from_pretrained(words)
    texts = read_rows(GSM8K).rows
    ids = np.concatenate([tokenizer(text).input_ids for text in texts[: len(texts) // 2]])  # the rest is for data
    dice, net = np.random.default_rng(SEED), network()
    steps = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01)
    net.train()
    began, step, loss = time.monotonic(), 0, None
    while (gone := time.monotonic() - began) < seconds:
        for group in steps.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50, 1.05 - gone / seconds)
        starts = dice.integers(0, len(ids) - TOKENS, ROWS)
        rows = torch.from_numpy(np.stack([ids[start : start + TOKENS] for start in starts]).astype(np.int64))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = net(rows, labels=rows).loss
        steps.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        steps.step()
        step += 1
        if step % 50 == 0:
            print(f"{NAME}: {gone:.0f} of {seconds:.0f} s, step {step}, loss {loss.item():.2f}", flush=True)
    net.eval().save_pretrained(out)
    return out


if __name__ == "__main__":
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    write(Path(sys.argv[1]))
