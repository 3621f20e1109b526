"""What a model is."""

from __future__ import annotations

from typing import Literal

from tasks.records.base import Record, Support


class ModelProfile(Record):
    """Profile of a model (S3), read from its configuration and weights, without running it."""

    name: str
    source: str  # as the user named it
    origin: str  # where the weights came from, in words, for the model card
    sha256: str  # over the weight files, in name order
    stored: str = ""  # the type of most weights as they came, where they were quantized then
    modality: str  # the kind of model, or what its architecture tells
    family: Literal["tokens", "arrays"] = "tokens"  # of the sessions it runs in
    architecture: str
    model_type: str = ""  # as its configuration says
    parameters: int
    size_mb: float
    dtype: str
    layers: int = 0  # of a transformer, as all that follow; 0: not told
    hidden_size: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    vocabulary: int = 0
    context_length: int = 0
    experts: int = 0  # of each layer that has any
    training_rows: int = 0  # that came with it, of kinds that can be trained
    untrainable: str = ""  # why it cannot be trained; empty: it can, where its kind can
    tied_embeddings: bool = False
    linear_input_sizes: tuple[int, ...] = ()  # distinct input widths of linear layers: what group sizes must divide
    memory_mb: dict[str, float]  # estimated weights + KV cache at full context, per precision
    compatibility: dict[str, Support] = {}  # per framework, as far as its table of architectures goes
