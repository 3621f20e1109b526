"""A type for each tensor of a GGUF file: the least loss of quality within a number of bits per weight, or of time.

What a tensor loses by a type is told from one pass over calibration texts: with x the input of its product, g the
gradient of the model's own loss at the output and D the rounding error of its weights, the divergence grows by about
the mean of (g' D x)^2 / 2, the second order of the KL divergence with the Fisher information in place of the Hessian
(Martens 2020, arXiv:1412.1193). Losses, bytes and the seconds of writing add up over tensors, so that the choice is a
multiple-choice knapsack, which HiGHS solves exactly (scipy.optimize.milp). The same pass tells llama.cpp the importance
of each column. What a type costs in time is timed: whole files of it take turns with one in q8_0.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.gguf import pace as timing
from tasks.errors import UnsupportedError

Floats = NDArray[np.float32]
# Types that whole files are tried in, by the method's name. Without those whose products with many rows have no kernels
# of their own in llama.cpp (one offset a block, Q4_1 and Q5_1), prompts are read faster.
TYPES = {
    "mixed": ("q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1", "q8_0", "q4_k_s", "q5_k_s", "q6_k", "q3_k_s"),
    "mixed-fast": ("q4_0", "iq4_nl", "q5_0", "q8_0", "q4_k_s", "q5_k_s", "q6_k"),
}
SLOW = ("Q4_1", "Q5_1")
TEXTS, TOKENS = 12, 96  # what is read
MEMORY = 2**31  # bytes that inputs and gradients may take together
WHOLE = ("F32", "F16", "BF16")  # types that are no quantization
NARROWEST = 32  # columns of a block


@dataclass(frozen=True)
class Seen:
    """Inputs and gradients of the products with one weight, a row a token."""

    inputs: Floats  # (tokens, columns)
    gradients: Floats  # (tokens, rows)

    @property
    def importance(self) -> Floats:
        """Mean square of each column's inputs."""
        found: Floats = np.asarray(np.mean(self.inputs**2, axis=0), np.float32)
        return found

    def loss(self, error: Floats) -> float:
        """Divergence per token that an error of the weights costs, nats; `error` is (rows, columns)."""
        moved = np.einsum("ij,ij->i", self.inputs @ error.T, self.gradients, dtype=np.float64)
        return float(np.mean(moved**2) / 2)


@dataclass(frozen=True)
class Budget:
    """What the types together may take; 0 is no limit, and one of the two is asked for."""

    bits: float = 0.0  # per weight on average
    pace: float = 0.0  # times as fast in writing as the model in q8_0, at least


@dataclass(frozen=True)
class Option:
    """One tensor in one type."""

    kind: str  # of GGUF: Q5_0
    size: int  # bytes
    loss: float  # nats per token, as predicted
    time: float = 0.0  # of writing a token, as a share of that of the model in q8_0


def quantize(
    base: Path, model: Path, texts: Sequence[str], out: Path, method: str, budget: Budget, threads: int
) -> dict[str, str]:
    """Write `out` from an f16 GGUF file with the types that lose least within a budget; returns them by tensor.

    `model` is the checkpoint that the file was made from. Raises UnsupportedError without texts, and where so few bits
    or so high a speed cannot be had.
    """
    if not budget.bits and not budget.pace:
        raise UnsupportedError(
            f"{method} needs `bits`, how many each weight may take on average, from 4 to 8; or `pace`, how many times "
            "as fast as q8_0 it shall write"
        )
    if not texts:
        raise UnsupportedError("a type for each tensor needs calibration texts, which were not given")
    _refuse_stacked(base)
    exact = {one.name: one.values for one in _matrices(base)}
    seen = observe(model, texts, threads, exact, _architecture(base))
    found = options(base, exact, seen, out.parent, method, threads, timed=bool(budget.pace))
    weights = sum(one.size for one in exact.values())
    kinds = choose(found, int(weights * budget.bits / 8) if budget.bits else None, budget.pace)
    lost = sum(next(o.loss for o in found[name] if o.kind == kind) for name, kind in kinds.items())
    print(f"types of {len(kinds)} tensors: {in_words(kinds)}; predicted divergence {lost:.4g} nats", flush=True)
    if budget.pace:
        share = sum(next(o.time for o in found[name] if o.kind == kind) for name, kind in kinds.items())
        print(f"predicted to write {1 / share:.2f} times as fast as q8_0", flush=True)
    write(base, out, kinds, {name: one.importance for name, one in seen.items()}, threads)
    return kinds


def _refuse_stacked(base: Path) -> None:
    """Raise UnsupportedError for stacked experts: they would stand outside of the bits that were asked for."""
    from gguf import GGUFReader

    if any(len(one.shape) > 2 for one in GGUFReader(base).tensors):
        raise UnsupportedError("types are mixed for weights with two axes; this model has stacked experts")


def choose(found: Mapping[str, Sequence[Option]], budget: int | None, pace: float = 0.0) -> dict[str, str]:
    """The options, one a tensor, of the least loss in all within a budget of bytes, of time, or of both.

    `pace` is how many times as fast as q8_0 throughout it shall be. Raises UnsupportedError where nothing keeps it.

    >>> found = {"a": [Option("Q4", 4, 1.0, 0.3), Option("Q8", 8, 0.0, 0.5)],
    ...          "b": [Option("Q4", 4, 0.1, 0.3), Option("Q8", 8, 0.0, 0.5)]}
    >>> choose(found, 12)
    {'a': 'Q8', 'b': 'Q4'}
    >>> choose(found, None, pace=1.5)
    {'a': 'Q4', 'b': 'Q4'}
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    _refuse_impossible(found, budget, pace)
    flat = [(name, one) for name, some in found.items() for one in some]
    names = list(found)
    one_each = np.zeros((len(names), len(flat)))
    for column, (name, _) in enumerate(flat):
        one_each[names.index(name), column] = 1
    sizes = np.array([one.size for _, one in flat], dtype=float)
    losses = np.array([one.loss for _, one in flat])
    scale = losses[losses > 0].mean() if (losses > 0).any() else 1.0
    constraints = [LinearConstraint(one_each, 1, 1)]
    if budget is not None:
        constraints.append(LinearConstraint(sizes[None, :], -np.inf, budget))
    if pace:
        constraints.append(LinearConstraint(np.array([[one.time for _, one in flat]]), -np.inf, 1 / pace))
    solved = milp(
        losses / scale + 1e-9 * sizes / sizes.max(),  # of equals the smaller
        constraints=constraints,
        integrality=np.ones(len(flat)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 1e-4, "time_limit": 60.0},
    )
    if solved.x is None:
        raise UnsupportedError(f"no types were found within `bits` and `pace`: {solved.message}")
    return {name: one.kind for (name, one), taken in zip(flat, solved.x, strict=True) if taken > 0.5}


def _refuse_impossible(found: Mapping[str, Sequence[Option]], budget: int | None, pace: float) -> None:
    least = sum(min(one.size for one in some) for some in found.values())
    if budget is not None and budget < least:
        raise UnsupportedError(
            f"the narrowest types of its tensors take {least / 1e6:.1f} MB, and {budget / 1e6:.1f} MB are allowed; "
            "ask for more bits"
        )
    fastest = sum(min(one.time for one in some) for some in found.values())
    if pace and fastest > 1 / pace:
        raise UnsupportedError(
            f"the fastest types of its tensors write {1 / fastest:.2f} times as fast as q8_0, and {pace:.2f} is asked "
            "for; ask for less"
        )


def options(
    base: Path, exact: Mapping[str, Floats], seen: Mapping[str, Seen], scratch: Path, method: str, threads: int,
    timed: bool = False,
) -> dict[str, list[Option]]:  # fmt: skip
    """What each tensor would be in each type, by files quantized whole in one after the other, and timed if asked."""
    from tasks.backends.gguf.making import quantize as whole

    importance = {name: one.importance for name, one in seen.items()}
    found: dict[str, dict[str, Option]] = {name: {} for name in exact}
    rates: dict[str, float] = {}
    no = WHOLE if method == "mixed" else (*WHOLE, *SLOW)  # where a width is not fit for a type, another is taken
    yardstick = scratch / "whole-yardstick.gguf"
    multiplied = _multiplied(exact)
    try:
        if timed:
            whole(base, yardstick, timing.YARDSTICK, threads, pure=True)
        for kind in TYPES[method]:
            file = scratch / f"whole-{kind}.gguf"
            try:
                with told(importance) as pointer:
                    whole(base, file, kind, threads, pure=True, importance=pointer)
                stored = {one.name: one for one in _matrices(file) if one.name in found}
                for one in stored.values():
                    if one.kind not in found[one.name] and one.kind not in no:
                        loss = seen[one.name].loss(one.values - exact[one.name]) if one.name in seen else 0.0
                        found[one.name][one.kind] = Option(one.kind, one.bytes, loss)
                if timed:
                    sizes = {name: (one.kind, exact[name].size) for name, one in stored.items() if name in multiplied}
                    rates |= timing.rates(timing.against(file, yardstick, threads), sizes, rates)
            finally:
                file.unlink(missing_ok=True)
    finally:
        yardstick.unlink(missing_ok=True)
    for name in found.keys() - seen.keys():  # nothing is known of what they lose: the widest type
        found[name] = dict([max(found[name].items(), key=lambda item: item[1].size)])
    all_weights = sum(exact[name].size for name in multiplied)
    for name in multiplied if timed else ():
        share = exact[name].size / all_weights
        found[name] = {kind: replace(one, time=share * rates[kind]) for kind, one in found[name].items()}
    return {name: _undominated(list(some.values())) for name, some in found.items() if some}


def _multiplied(exact: Mapping[str, Floats]) -> set[str]:
    """Weights that each token is multiplied by: not an embedding beside a head of its own, of which it reads a row."""
    return {name for name in exact if name != "token_embd.weight" or "output.weight" not in exact}


def _undominated(some: Sequence[Option]) -> list[Option]:
    def over(one: Option, other: Option) -> bool:
        no_worse = one.size <= other.size and one.loss <= other.loss and one.time <= other.time
        return no_worse and (one.size, one.loss, one.time) != (other.size, other.loss, other.time)

    return [one for one in some if not any(over(other, one) for other in some)]


def in_words(kinds: Mapping[str, str]) -> str:
    """How many tensors are of which type."""
    counted = sorted({(sum(kind == one for one in kinds.values()), kind) for kind in kinds.values()}, reverse=True)
    return ", ".join(f"{count} {kind}" for count, kind in counted)


def write(base: Path, out: Path, kinds: Mapping[str, str], importance: Mapping[str, Floats], threads: int) -> None:
    """Quantize with a type of its own for each tensor."""
    import llama_cpp
    from gguf import GGMLQuantizationType

    from tasks.backends.gguf.making import quantize as whole

    entries = [(f"^{re.escape(name)}$".encode(), int(GGMLQuantizationType[kind])) for name, kind in kinds.items()]
    rows = (llama_cpp.llama_model_tensor_override * (len(entries) + 1))()
    for row, (pattern, kind) in zip(rows, entries, strict=False):
        row.pattern, row.type = pattern, kind
    rows[len(entries)].pattern = None
    head = kinds.get("output.weight", kinds.get("token_embd.weight"))
    own = GGMLQuantizationType[kinds["token_embd.weight"]] if "token_embd.weight" in kinds else None
    with told(importance) as pointer:
        whole(
            base, out, "q8_0", threads, importance=pointer, overrides=rows,
            embedding=None if own is None else int(own),
            output=None if head is None else int(GGMLQuantizationType[head]),
        )  # fmt: skip


@contextmanager
def told(importance: Mapping[str, Floats]) -> Iterator[Any]:
    """Importance of columns as llama.cpp reads it: an array that ends with an empty name."""
    import llama_cpp

    kept = [np.ascontiguousarray(values, np.float32) for values in importance.values()]
    rows = (llama_cpp.llama_model_imatrix_data * (len(kept) + 1))()
    for row, name, values in zip(rows, importance, kept, strict=False):
        row.name = name.encode()
        row.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        row.size = values.size
    rows[len(kept)].name, rows[len(kept)].size = None, 0
    yield rows


@dataclass(frozen=True)
class Matrix:
    """A weight with two axes, as a file has it."""

    name: str
    kind: str
    bytes: int
    values: Floats  # (rows, columns)


def _matrices(file: Path) -> Iterator[Matrix]:
    from gguf import GGUFReader
    from gguf.quants import dequantize

    for one in GGUFReader(file).tensors:
        if len(one.shape) == 2 and one.name.endswith(".weight") and int(one.shape[0]) % NARROWEST == 0:
            values = dequantize(one.data, one.tensor_type).astype(np.float32)
            yield Matrix(one.name, str(one.tensor_type.name), int(one.n_bytes), values)


def observe(
    model: Path, texts: Sequence[str], threads: int, exact: Mapping[str, Floats], architecture: str
) -> dict[str, Seen]:
    """Read texts with the unquantized checkpoint; inputs and gradients by the names that GGUF gives its weights.

    Labels are drawn from the model's own predictions, so that the gradients are those of its Fisher information. Rows
    of weights that the converter reorders are told by their values.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(max(1, threads))
    torch.manual_seed(17)
    net: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    layers = {name: layer for name, layer in net.named_modules() if isinstance(layer, torch.nn.Linear)}
    wide = sum(layer.in_features + layer.out_features for name, layer in layers.items() if "head" not in name)
    wide = max(wide, 2 * net.config.vocab_size)
    tokens = int(min(TEXTS * TOKENS, MEMORY / 4 / wide))
    inputs: dict[str, list[Floats]] = {name: [] for name in layers}
    gradients: dict[str, list[Floats]] = {name: [] for name in layers}

    def keep(name: str) -> Any:
        def hook(_: Any, given: Any, made: Any) -> None:
            inputs[name].append(given[0].detach()[0].numpy().astype(np.float32))
            made.register_hook(lambda g: gradients[name].append(g.detach()[0].numpy().astype(np.float32)))

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in layers.items() if not _is_head(net, layer)]
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    read = 0
    heads: list[tuple[Floats, Floats]] = []
    for text in texts[:TEXTS]:
        ids = tokenizer(text, return_tensors="pt").input_ids[:, : min(TOKENS, tokens - read)]
        if ids.shape[1] < 2:
            continue
        read += ids.shape[1]
        embedded = net.get_input_embeddings()(ids).requires_grad_(True)
        said = net(inputs_embeds=embedded, output_hidden_states=True)
        logits = said.logits[0]
        drawn = torch.distributions.Categorical(logits=logits.detach()).sample()
        torch.nn.functional.cross_entropy(logits, drawn, reduction="sum").backward()
        slope = torch.softmax(logits.detach(), -1)
        slope[torch.arange(len(drawn)), drawn] -= 1
        heads.append((said.hidden_states[-1][0].detach().numpy(), slope.numpy()))
        if read >= tokens:
            break
    for handle in handles:
        handle.remove()
    return _named(net, inputs, gradients, heads, exact, architecture)


def _is_head(net: Any, layer: Any) -> bool:
    return layer is net.get_output_embeddings()


def _named(
    net: Any,
    inputs: Mapping[str, list[Floats]],
    gradients: Mapping[str, list[Floats]],
    heads: Sequence[tuple[Floats, Floats]],
    exact: Mapping[str, Floats],
    architecture: str,
) -> dict[str, Seen]:
    names = _name_map(architecture, net.config.num_hidden_layers)
    found = {}
    for name in inputs:
        if not inputs[name] or not gradients[name]:
            continue
        own = str(names.get_name(f"{name}.weight", try_suffixes=(".weight",))) if names is not None else ""
        seen = Seen(np.concatenate(inputs[name]), np.concatenate(gradients[name]))
        if own in exact and exact[own].shape == (seen.gradients.shape[1], seen.inputs.shape[1]):
            order = _in_order(net.get_submodule(name).weight.detach().numpy(), exact[own])
            if order is not None:
                found[own] = Seen(seen.inputs, seen.gradients[:, order])
    head = "output.weight" if "output.weight" in exact else "token_embd.weight"
    if heads and head in exact:
        hidden, slopes = (np.concatenate([pair[n] for pair in heads]) for n in (0, 1))
        if exact[head].shape == (slopes.shape[1], hidden.shape[1]):
            found[head] = Seen(hidden, slopes)
    return found


def _architecture(file: Path) -> str:
    from gguf import GGUFReader

    return str(GGUFReader(file).fields["general.architecture"].contents())


def _name_map(architecture: str, layers: int) -> Any:
    """The names that GGUF gives the weights of an architecture; None of one that the package does not know."""
    from gguf import MODEL_ARCH_NAMES, TensorNameMap

    arch = next((key for key, name in MODEL_ARCH_NAMES.items() if name == architecture), None)
    if arch is None:
        return None
    common = dict(TensorNameMap.block_mappings_cfg)  # an architecture's own names are written into those of all
    try:
        return TensorNameMap(arch, layers)
    finally:
        TensorNameMap.block_mappings_cfg.clear()
        TensorNameMap.block_mappings_cfg.update(common)


def _in_order(weight: Floats, stored: Floats) -> NDArray[np.intp] | None:
    """For each stored row the row of the checkpoint that it is; None where they are not the same rows."""
    places = {row.tobytes(): n for n, row in enumerate(np.ascontiguousarray(weight.astype(np.float16)))}
    found = [places.get(row.tobytes(), -1) for row in np.ascontiguousarray(stored.astype(np.float16))]
    return None if len(places) != len(found) or min(found) < 0 else np.array(found)
