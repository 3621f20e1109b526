"""Every tensor accounted for: what a checkpoint's files hold, beside what its configuration says. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tasks.errors import ModelError
from tasks.kinds.causal_lm.incoming.words import SHOWN, some

LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
WRAPPERS: Mapping[str, str] = {  # what wrapped a model when it was saved, by what it puts before names
    "_orig_mod.": "torch.compile (save model._orig_mod)",
    "module.": "DataParallel or DistributedDataParallel (save model.module)",
    "base_model.model.": "peft (call merge_and_unload, then save)",
    "_fsdp_wrapped_module.": "FSDP (save the full state dict)",
    "_forward_module.": "Lightning (save the inner model)",
}
BUFFERS = ("rotary_emb.inv_freq", "masked_bias", "attn.bias", "position_ids", "rotary_pos_emb.inv_freq")


@dataclass(frozen=True)
class Found:
    """What loading a checkpoint told, by names of tensors."""

    stored: Collection[str]  # in the files
    missing: Collection[str]  # of the model, in no file: the library would make them up
    unexpected: Collection[str]  # in the files, of no use to the model
    shapes: Mapping[str, tuple[Sequence[int], Sequence[int]]]  # stored and wanted, where they differ


def account(found: Found, layers: int, name: str) -> str:
    """Raise ModelError, with the likely cause, where tensors are missing or do not fit; else tell of those left over.

    `layers` is how many the configuration says.
    """
    if found.shapes:
        raise ModelError(f"{name}: {_shapes(found.shapes)}")
    wrapped = {names: what for names, what in WRAPPERS.items() if any(s.startswith(names) for s in found.stored)}
    if found.missing and wrapped:
        raise ModelError(
            f"{name}: its tensors carry the names of a wrapper, {', '.join(sorted(wrapped))}: saved by "
            f"{', '.join(wrapped.values())}. {_missing(found.missing)}"
        )
    there = _layers({*found.stored, *found.unexpected})  # of a pickle only what is left over is known
    beyond = sorted(number for number in there if number >= layers)
    if beyond:
        raise ModelError(
            f"{name}: config.json says {layers} layers (num_hidden_layers), the files hold {max(there) + 1}; set the "
            "number that the model has, or give the weights of the shorter model"
        )
    if found.missing:
        raise ModelError(f"{name}: {_cause(found, layers, there)} {_missing(found.missing)}")
    left = sorted(one for one in found.unexpected if not one.endswith(BUFFERS))
    return f"{len(left)} tensors of the files are of no use to it and were left out: {some(left)}" if left else ""


def _cause(found: Found, layers: int, there: Collection[int]) -> str:
    absent = sorted(set(range(layers)) - set(there))
    if all("lm_head" in one or "embed_out" in one or one == "output.weight" for one in found.missing):
        return (
            "the output layer is not in the files and config.json does not tie it to the embedding "
            "(tie_word_embeddings: true, if it was)."
        )
    if absent and there:
        said = f"config.json says {layers} layers (num_hidden_layers), the files hold {len(there)}"
        return f"{said}; a file is missing, or the number is another model's."
    if len(found.missing) >= len(found.stored):
        return "the files hold other names than the architecture's: saved by another program, or of another model."
    return "the files do not hold the whole model; fetch it again, all parts of it."


def _missing(names: Collection[str]) -> str:
    return f"Not there: {some(sorted(names))}"


def _shapes(shapes: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> str:
    named = [
        f"{name} has {list(has)}, config.json says {list(wanted)}" for name, (has, wanted) in sorted(shapes.items())
    ]
    if all(0 in has for has, _ in shapes.values()):
        return (
            f"{len(shapes)} tensors are empty ({named[0]}): saved from a ZeRO-3 run without gathering them; save with "
            "stage3_gather_16bit_weights_on_model_save, or run zero_to_fp32.py"
        )
    vocabulary = all("embed" in name or "lm_head" in name or "wte" in name for name in shapes)
    cause = "; tokens were added and vocab_size was not raised" if vocabulary else ""
    return f"tensors have other shapes than config.json says{cause}: {'; '.join(named[:SHOWN])}"


def _layers(names: Collection[str]) -> set[int]:
    return {int(found.group(1)) for one in names if (found := LAYER.search(one))}
