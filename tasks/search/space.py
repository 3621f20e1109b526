"""The candidates of a search: every recipe that the backends of a model's family say they can make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

from tasks.backends.base import Family
from tasks.backends.table import MODULES, backend
from tasks.backends.traits import AS_STORED, Corner
from tasks.params.pipeline import Variant

WIDTH = {"int8": 8.0, "int4": 4.0, "fp16": 16.0, "bf16": 16.0, "fp32": 32.0}
FEWER_EXPERTS = (0.75, 0.5)
SCALE_BITS = 20.0  # of a group's scale and zero point


def space(family: Family, seeds: Mapping[str, Variant], experts: int = 0) -> dict[str, Variant]:
    """All candidates by name, those of `seeds` (the variants that the user has) first and under their own names.

    Bases that they are made from (unquantized artifacts) are among them as rivals. Of a model with `experts` the seeds
    that are made from it are tried with fewer of them too.
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
    for name, seed in seeds.items() if experts else ():
        if seed.role == "candidate" and seed.source == "model" and seed.method != AS_STORED and seed.experts == 1:
            for share in FEWER_EXPERTS:
                found[f"{name}-e{round(share * 100)}"] = seed.model_copy(update={"experts": share})
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
    return one.backend, one.precision, one.method, one.group_size, one.symmetric, one.ratio, one.bits, one.experts


def _name(variant: Variant) -> str:
    """A name that says the recipe: openvino-int4-awq-g64-sym-r80."""
    parts = [variant.backend, variant.precision]
    parts += [variant.method] if variant.method != "default" else []
    parts += [f"g{variant.group_size}"] if variant.group_size else []
    parts += ["sym"] if variant.symmetric else []
    parts += [f"r{round(variant.ratio * 100)}"] if variant.ratio < 1 else []
    parts += [f"b{round(variant.bits * 100)}"] if variant.bits else []
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
    """Fewest bits per weight in a space, without any scale: no artifact of it is smaller."""
    return min(min(bits(one), WIDTH[one.precision]) for one in variants)


def features(variants: Mapping[str, Variant]) -> dict[str, list[float]]:
    """Each variant as numbers from 0 to 1: one column for every backend, method and precision, and for each knob."""
    words = {name: (v.backend, f"{v.backend}/{v.precision}/{v.method}") for name, v in variants.items()}
    columns = sorted({word for own in words.values() for word in own})
    found = {}
    for name, one in variants.items():
        group = math.log2(one.group_size) / 8 if one.group_size else 0.0
        knobs = [group, float(one.symmetric), one.ratio, one.experts, math.log2(bits(one)) / 5]
        found[name] = [*(float(column in words[name]) for column in columns), *knobs]
    return found
