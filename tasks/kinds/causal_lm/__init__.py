"""Causal language models: text in, text out, from a Hugging Face checkpoint in fp32."""

from typing import Literal

FAMILY: Literal["tokens"] = "tokens"
