"""Mixture of experts: how experts are used, and a checkpoint with fewer of them, so that every runtime gets it.

Experts are judged on calibration texts, by what the model sends through them: how often (frequency), the sum of the
norms of what they answer (EAN), or the mean of that norm times the router's weight, over the tokens that they were
given (REAP, arXiv:2510.13999). Those of the highest scores stay, as many in each layer; their weights and the router's
rows are taken out of the checkpoint as they are, and nothing is trained after it. What that costs, the gates say.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import UnsupportedError
from tasks.records.terms import ExpertsBy

COUNTS = ("num_local_experts", "num_experts", "n_routed_experts")  # names of the number of experts in a configuration
CHOSEN = ("num_experts_per_tok", "num_selected_experts", "moe_topk", "top_k")  # and of how many a token is given
TEXTS, TOKENS = 32, 128


@dataclass(frozen=True)
class Use:
    """How the experts of one layer were used; each (experts,)."""

    tokens: NDArray[np.float64]  # that an expert was given
    norms: NDArray[np.float64]  # sum of the norms of its answers
    weighted: NDArray[np.float64]  # sum of those norms times the router's weight

    def scores(self, by: ExpertsBy) -> NDArray[np.float64]:
        """What each expert is worth; one that was never chosen is worth nothing."""
        if by == "frequency":
            return self.tokens
        if by == "ean":
            return self.norms
        found: NDArray[np.float64] = self.weighted / np.maximum(self.tokens, 1)
        return found


def counted(config: Mapping[str, Any]) -> int:
    """Number of experts of each layer by a configuration; 0 of a dense model."""
    return next((int(config[name]) for name in COUNTS if config.get(name)), 0)


def kept(uses: Mapping[str, Use], share: float, by: ExpertsBy, chosen: int) -> dict[str, NDArray[np.intp]]:
    """Which experts of each layer stay, in their order: `share` of them, and no fewer than a token is given.

    >>> use = Use(np.array([9.0, 1, 5, 0]), np.array([9.0, 4, 5, 0]), np.array([4.0, 2, 1, 0]))
    >>> kept({"0": use}, 0.5, "frequency", 1)["0"].tolist(), kept({"0": use}, 0.5, "reap", 1)["0"].tolist()
    ([0, 2], [0, 1])
    """
    found = {}
    for layer, use in uses.items():
        scores = use.scores(by)
        count = max(chosen, round(share * len(scores)), 1)
        found[layer] = np.sort(np.argsort(-scores, kind="stable")[:count])
    return found


def pruned(
    model: Path, texts: Sequence[str], share: float, by: ExpertsBy, out: Path, threads: int
) -> dict[str, list[int]]:
    """Write the checkpoint in `model` to `out` with that share of its experts; returns those kept, by layer.

    Raises UnsupportedError for a model without experts, or with experts in another form than stacked ones.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not texts:
        raise UnsupportedError("experts are judged on calibration texts, which were not given")
    torch.set_num_threads(max(1, threads))
    net: Any = AutoModelForCausalLM.from_pretrained(model, dtype="auto").eval()
    blocks = _blocks(net)
    if not blocks:
        raise UnsupportedError("this model has no layers of stacked experts behind a router; nothing can be pruned")
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = [tokenizer(text, return_tensors="pt").input_ids[:, :TOKENS] for text in texts[:TEXTS]]
    chosen = next(int(getattr(net.config, name)) for name in CHOSEN if getattr(net.config, name, None))
    stay = kept(used(net, [row for row in ids if row.shape[1]]), share, by, chosen)
    for name, block in blocks.items():
        _cut(block, torch.as_tensor(stay[name]))
    count = len(next(iter(stay.values())))
    for name in COUNTS:
        if getattr(net.config, name, None):
            setattr(net.config, name, count)
    net.save_pretrained(out)
    for file in model.iterdir():  # the tokenizer, and who the model is
        weights = file.suffix in (".safetensors", ".bin", ".gguf") or file.name == "model.safetensors.index.json"
        if file.is_file() and not weights and not (out / file.name).exists():
            shutil.copy2(file, out / file.name)
    return {name: [int(one) for one in own] for name, own in stay.items()}


def used(net: Any, rows: Sequence[Any]) -> dict[str, Use]:
    """Let the model read rows of token ids, (1, tokens) each, and count what goes through each expert."""
    import torch

    found: dict[str, list[NDArray[np.float64]]] = {}

    def watch(name: str) -> Any:
        def hook(module: Any, given: Any) -> None:
            states, index, weights = given
            tokens, norms, weighted = found.setdefault(name, [np.zeros(len(module.down_proj)) for _ in range(3)])
            for expert in index.unique().tolist():
                token, place = torch.where(index == expert)
                gate, up = torch.nn.functional.linear(states[token], module.gate_up_proj[expert]).chunk(2, dim=-1)
                answer = torch.nn.functional.linear(module.act_fn(gate) * up, module.down_proj[expert])
                size = answer.float().norm(dim=-1)
                tokens[expert] += len(token)
                norms[expert] += float(size.sum())
                weighted[expert] += float((size * weights[token, place].float()).sum())

        return hook

    handles = [block.experts.register_forward_pre_hook(watch(name)) for name, block in _blocks(net).items()]
    try:
        with torch.no_grad():
            for row in rows:
                net(row)
    finally:
        for handle in handles:
            handle.remove()
    empty = {name: [np.zeros(len(block.experts.down_proj)) for _ in range(3)] for name, block in _blocks(net).items()}
    return {name: Use(*found.get(name, empty[name])) for name in empty}


def _blocks(net: Any) -> dict[str, Any]:
    """Layers with a router (`gate`) and stacked experts (`experts`), as transformers has them from release 5 on."""
    return {
        name: one
        for name, one in net.named_modules()
        if hasattr(one, "experts")
        and hasattr(getattr(one, "gate", None), "weight")
        and hasattr(one.experts, "gate_up_proj")
        and hasattr(one.experts, "down_proj")
    }


def _cut(block: Any, stay: Any) -> None:
    """Keep some experts of a layer and the router's rows for them."""
    import torch

    for module, name in ((block.experts, "gate_up_proj"), (block.experts, "down_proj"), (block.gate, "weight")):
        setattr(module, name, torch.nn.Parameter(getattr(module, name).detach()[stay].clone(), requires_grad=False))
    for module in (block.experts, block.gate):
        if hasattr(module, "num_experts"):
            module.num_experts = len(stay)
