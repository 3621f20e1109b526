"""The one quantization policy (S9): method, precision and granularity per platform, adapted to the model. Pure."""

from __future__ import annotations

from tasks.backends.table import backend
from tasks.backends.traits import AS_STORED, Advice, Traits
from tasks.params.pipeline import Variant
from tasks.planning.selection import platform_of
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.records.terms import Precision

INT8_ISA = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
BF16_ISA = ("amx_bf16", "avx512_bf16", "bf16")


def recommended(traits: Traits, hardware: Hardware) -> Advice | None:
    """Look up what a backend does best on the target's row of the hardware matrix; None where it has no advice."""
    row, _ = platform_of(hardware)
    return traits.advice.get(row) or traits.advice.get("any")


def recipe(name: str, variant: Variant, model: ModelProfile, hardware: Hardware) -> Recipe:
    """Decide how variant `name` is made for this model and target, with the reason for each choice and change."""
    group, changes = fit_group(variant, model.linear_input_sizes)
    method, other = fit_method(variant, hardware)
    reasons = [
        method_reason(name, variant),
        *other,
        *changes,
        *_experts_note(variant, model),
        *_training_note(variant, model),
        *_arithmetic_note(variant, hardware),
        *backend(variant.backend).TRAITS.notes(variant, model, hardware),
        *_policy_note(variant, hardware),
    ]
    return Recipe(
        backend=variant.backend,
        precision=_precision(variant, model),
        role=variant.role,
        method=method,
        group_size=group,
        symmetric=variant.symmetric,
        ratio=variant.ratio,
        bits=variant.bits,
        pace=variant.pace,
        experts=variant.experts,
        experts_by=variant.experts_by,
        channels=variant.channels,
        epochs=variant.epochs,
        reasons=tuple(reasons),
    )


def _precision(variant: Variant, model: ModelProfile) -> Precision:
    """As asked; of a model that is kept as it came, what its weights are."""
    kept = backend(variant.backend).TRAITS.as_stored(model) if variant.method == AS_STORED else None
    return kept or variant.precision


def method_reason(name: str, variant: Variant) -> str:
    """Give the reason for a method; one that no table explains is the user's own choice."""
    known = backend(variant.backend).TRAITS.methods
    return known.get(f"{variant.precision}/{variant.method}", f"{name} is made as params.yaml asks: {variant.method}")


def fit_method(variant: Variant, hardware: Hardware) -> tuple[str, list[str]]:
    """The method asked for, or what stands in for it on this processor, with the reason."""
    other = backend(variant.backend).TRAITS.fallbacks.get(f"{variant.precision}/{variant.method}")
    if other is None or set(other.without) & set(hardware.isa.value or ()):
        return variant.method, []
    return other.method, [other.why]


def fit_group(variant: Variant, widths: tuple[int, ...]) -> tuple[int, list[str]]:
    """The largest group size, at most the one asked for, that divides all input widths; and what changed, and why."""
    asked, kernels = variant.group_size, backend(variant.backend).TRAITS.groups
    if not asked or kernels is None or not widths:
        return asked, []
    allowed = {size for size in kernels.sizes if size <= asked}
    if not kernels.only_these:
        allowed.add(asked)
    fitting = [size for size in allowed if all(width % size == 0 for width in widths)]
    if fitting:
        best = max(fitting)
        odd = ", ".join(str(width) for width in widths if width % asked)
        why = (
            f"{asked} does not divide the layer width {odd}"
            if odd
            else f"{variant.backend} has no kernels for groups of {asked}"
        )
        return best, [] if best == asked else [f"group size {best} in place of {asked}: {why}"]
    shown = ", ".join(map(str, widths))
    if kernels.otherwise == "channel":
        return 0, [f"one scale per output channel in place of groups of {asked}: no group size divides {shown}"]
    if kernels.otherwise == "pad":
        return asked, [f"no group size divides the layer widths {shown}: the last block of each row is padded"]
    smallest = min(allowed, default=min(kernels.sizes))
    rest = ", ".join(str(width) for width in widths if width % smallest)
    return smallest, [f"group size {smallest}: layers of width {rest} cannot be grouped and stay unquantized"]


def _experts_note(variant: Variant, model: ModelProfile) -> list[str]:
    if variant.experts == 1 or not model.experts:
        return []
    return [
        f"{variant.experts:.0%} of the {model.experts} experts of each layer stay, the best by {variant.experts_by}"
    ]


def _training_note(variant: Variant, model: ModelProfile) -> list[str]:
    if not variant.epochs:
        return []
    fewer = f"{variant.channels:.0%} of each layer's channels stay; " if variant.channels < 1 else ""
    return [f"{fewer}trained for {variant.epochs} passes over {model.training_rows} rows"]


def _arithmetic_note(variant: Variant, hardware: Hardware) -> list[str]:
    """What the target's instructions mean for this precision; nothing where they are unknown."""
    wanted = {"int8": INT8_ISA, "int4": INT8_ISA, "bf16": BF16_ISA}.get(variant.precision)
    if wanted is None or hardware.isa.value is None:
        return []
    have = [name for name in wanted if name in hardware.isa.value]
    if have:
        return [
            f"the CPU multiplies {'bf16' if variant.precision == 'bf16' else 'int8'} in hardware ({', '.join(have)})"
        ]
    what = "bf16 is emulated, so slow" if variant.precision == "bf16" else "gains come from smaller memory traffic"
    return [f"the CPU has none of {', '.join(wanted)}: {what}"]


def _policy_note(variant: Variant, hardware: Hardware) -> list[str]:
    one = backend(variant.backend)
    framework, advice = one.FRAMEWORK, recommended(one.TRAITS, hardware)
    if framework is None or advice is None or variant.role != "candidate":
        return []
    row, _ = platform_of(hardware)
    if advice.precision == variant.precision:
        return [f"{advice.precision} is the policy's precision for {framework} on {row}: {advice.why}"]
    return [f"the policy would take {advice.precision} ({advice.method}) for {framework} on {row}; made to compare"]
