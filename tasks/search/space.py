"""The candidates of a search: every recipe that the backends of a model's family say they can make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from tasks.backends.base import Family
from tasks.backends.table import MODULES, backend
from tasks.backends.traits import AS_STORED, Corner
from tasks.params.pipeline import Variant

WIDTH = {"int8": 8.0, "int4": 4.0, "fp16": 16.0, "bf16": 16.0, "fp32": 32.0}
FEWER_EXPERTS = (0.75, 0.5)
FEWER_CHANNELS = (0.75, 0.5, 0.25)
EPOCHS = 20  # that fewer channels are trained for
SCALE_BITS = 20.0  # of a group's scale and zero point


@dataclass(frozen=True)
class Prunable:
    """What of a model can be left out, so that recipes are tried with less of it."""

    experts: bool = False
    channels: bool = False  # it came with training data, and its operators can be trained


def space(family: Family, seeds: Mapping[str, Variant], prunable: Prunable = Prunable()) -> dict[str, Variant]:
    """All candidates by name, those of `seeds` (the variants that the user has) first and under their own names.

    Bases that they are made from (unquantized artifacts) are among them as rivals. Seeds that are made from the model
    itself are tried with fewer experts or channels too, where it is `prunable`.
    """
    found = dict(seeds)
    known = {_line(variant) for variant in seeds.values()}
    for name in MODULES:
        one = backend(name)
        for corner in one.TRAITS.space if family in one.FAMILIES else ():
            if family not in corner.families:
                continue
            for variant in _corner(name, corner, found):
                if _line(variant) not in known:
                    known.add(_line(variant))
                    found[_name(variant)] = variant
    for name, seed in seeds.items():
        for own, update in _fewer(name, seed, prunable).items():
            variant = seed.model_copy(update=update)
            if _line(variant) not in known:
                known.add(_line(variant))
                found[own.replace("%", "")] = variant
    return found


def _fewer(name: str, seed: Variant, prunable: Prunable) -> dict[str, dict[str, object]]:
    """What of a variant's line changes where less of the model stays, by name; with fewer channels also unquantized."""
    if seed.source != "model" or seed.method == AS_STORED or seed.experts < 1 or seed.channels < 1:
        return {}
    found: dict[str, dict[str, object]] = {}
    if prunable.experts and seed.role == "candidate":
        found |= {f"{name}-e{share:.0%}": {"experts": share} for share in FEWER_EXPERTS}
    if prunable.channels:
        told = {"role": "candidate", "epochs": max(EPOCHS, seed.epochs)}
        found |= {f"{name}-c{share:.0%}": {"channels": share, **told} for share in FEWER_CHANNELS}
    return found


def _corner(name: str, corner: Corner, found: dict[str, Variant]) -> list[Variant]:
    source = "model"
    if corner.base:
        precision, method = corner.base.split("/")
        base = Variant.model_validate({"backend": name, "precision": precision, "method": method, "role": "rival"})
        own = next((key for key, one in found.items() if _line(one) == _line(base)), None)
        if own is None:
            own = _name(base)
            found[own] = base
        source = f"variants/{own}"
    common = {"backend": name, "precision": corner.precision, "method": corner.method, "source": source}
    choices = product(corner.groups, corner.symmetric, corner.ratios, corner.bits)
    return [
        Variant.model_validate(common | {"group_size": group, "symmetric": even, "ratio": ratio, "bits": bits})
        for group, even, ratio, bits in choices
    ]


def _line(variant: Variant) -> tuple[object, ...]:
    """What an artifact depends on."""
    one = variant
    knobs = one.group_size, one.symmetric, one.ratio, one.bits, one.pace, one.experts, one.channels, one.epochs
    return one.backend, one.precision, one.method, *knobs


def _name(variant: Variant) -> str:
    """A name that says the recipe: openvino-int4-awq-g64-sym-r80."""
    parts = [variant.backend, variant.precision]
    parts += [variant.method] if variant.method != "default" else []
    parts += [f"g{variant.group_size}"] if variant.group_size else []
    parts += ["sym"] if variant.symmetric else []
    parts += [f"r{round(variant.ratio * 100)}"] if variant.ratio < 1 else []
    parts += [f"b{round(variant.bits * 100)}"] if variant.bits else []
    parts += [f"x{round(variant.pace * 100)}"] if variant.pace else []
    return "-".join(parts)


def bits(variant: Variant) -> float:
    """Bits per weight that a recipe comes to nearly, scales included.

    >>> line = {"backend": "openvino", "precision": "int4", "group_size": 64, "ratio": 0.5}
    >>> bits(Variant.model_validate(line))
    6.15625
    """
    if variant.bits:
        return variant.bits
    one = backend(variant.backend).TRAITS
    own = next((c.nominal for c in one.space if (c.precision, c.method) == (variant.precision, variant.method)), 0.0)
    if own:
        return own
    narrow = WIDTH[variant.precision] + (SCALE_BITS / variant.group_size if variant.group_size else 0.0)
    return variant.ratio * narrow + (1 - variant.ratio) * max(narrow, WIDTH["int8"])


def least_bits(variants: Sequence[Variant]) -> float:
    """Fewest bits for each weight of the model, without any scale: no artifact of a space is smaller.

    Of a layer with a share of its channels the square of that share stays, as those before it are fewer too.
    """
    return min(min(bits(one), WIDTH[one.precision]) * one.experts * one.channels**2 for one in variants)


def features(variants: Mapping[str, Variant]) -> dict[str, list[float]]:
    """Each variant as numbers from 0 to 1: one column for every backend, method and precision, and for each knob."""
    words = {name: (v.backend, f"{v.backend}/{v.precision}/{v.method}") for name, v in variants.items()}
    columns = sorted({word for own in words.values() for word in own})
    found = {}
    for name, one in variants.items():
        group = math.log2(one.group_size) / 8 if one.group_size else 0.0
        knobs = [group, float(one.symmetric), one.ratio, one.experts * one.channels, math.log2(bits(one)) / 5]
        found[name] = [*(float(column in words[name]) for column in columns), *knobs]
    return found
