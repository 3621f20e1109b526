"""The one quantization policy (S9): method, precision and granularity per platform, adapted to the model. Pure."""

from __future__ import annotations

from typing import NamedTuple

from tasks.config import Variant
from tasks.planning.selection import platform_of
from tasks.planning.table import table
from tasks.records import FRAMEWORK_OF, Framework, Hardware, ModelProfile, Precision, Recipe, Support

K_BLOCK = 256  # llama.cpp's K-quants cut rows into super-blocks of this many weights
INT8_ISA = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
TORCH_BF16 = {"x86_64": ("avx512f",), "arm64": ("bf16",)}
BF16_ISA = ("amx_bf16", "avx512_bf16", "bf16")


class Recommended(NamedTuple):
    """What the policy would choose of a framework on a platform."""

    precision: Precision
    method: str
    group: int
    reason: str


def recommended(framework: Framework, hardware: Hardware) -> Recommended:
    """The policy's line for `framework` on the target's row of the hardware matrix."""
    rows = table().recommended[framework]
    row, _ = platform_of(hardware)
    advice = rows.get(row, rows["any"])
    return Recommended(advice.precision, advice.method, advice.group_size, advice.why)


def recipe(name: str, variant: Variant, model: ModelProfile, hardware: Hardware) -> Recipe:
    """How variant `name` is made for this model and target, with the reason for each choice and each change."""
    group, changes = fit_group(variant, model.linear_input_sizes)
    reasons = [
        method_reason(name, variant),
        *changes,
        *_k_quant_note(variant, model.linear_input_sizes),
        *_arithmetic_note(variant, hardware),
        *_npu_note(variant, hardware),
        *_policy_note(variant, hardware),
    ]
    return Recipe(
        backend=variant.backend,
        precision=variant.precision,
        role=variant.role,
        method=variant.method,
        group_size=group,
        symmetric=variant.symmetric,
        ratio=variant.ratio,
        reasons=tuple(reasons),
    )


def method_reason(name: str, variant: Variant) -> str:
    """Why a method; a method that no table explains is the user's own choice."""
    known = table().methods.get(variant.backend, {})
    return known.get(f"{variant.precision}/{variant.method}", f"{name} is made as params.yaml asks: {variant.method}")


def fit_group(variant: Variant, widths: tuple[int, ...]) -> tuple[int, list[str]]:
    """The largest group size, at most the one asked for, that divides all input widths; and what changed, and why."""
    asked, kernels = variant.group_size, table().groups.get(variant.backend)
    if not asked or kernels is None or not widths:
        return asked, []
    allowed = {size for size in kernels.sizes if size <= asked}
    if variant.backend != "mlx":
        allowed.add(asked)  # only MLX's kernels are made for fixed sizes
    fitting = [size for size in allowed if all(width % size == 0 for width in widths)]
    if fitting:
        best = max(fitting)
        odd = ", ".join(str(width) for width in widths if width % asked)
        why = f"{asked} does not divide the layer width {odd}" if odd else f"MLX has no kernels for groups of {asked}"
        return best, [] if best == asked else [f"group size {best} in place of {asked}: {why}"]
    shown = ", ".join(map(str, widths))
    if kernels.otherwise == "channel":
        return 0, [f"one scale per output channel in place of groups of {asked}: no group size divides {shown}"]
    if kernels.otherwise == "pad":
        return asked, [f"no group size divides the layer widths {shown}: the last block of each row is padded"]
    smallest = min(allowed, default=min(kernels.sizes))
    rest = ", ".join(str(width) for width in widths if width % smallest)
    return smallest, [f"group size {smallest}: layers of width {rest} cannot be grouped and stay unquantized"]


def _k_quant_note(variant: Variant, widths: tuple[int, ...]) -> list[str]:
    odd = [str(width) for width in widths if width % K_BLOCK]
    if variant.backend != "gguf" or "_k" not in variant.method.lower() or not odd:
        return []
    return [
        f"rows of {', '.join(odd)} are not divisible by {K_BLOCK}: for those tensors K-quants fall back to Q5_0 or Q8_0"
    ]


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


def torch_bf16(hardware: Hardware) -> Support:
    """Whether PyTorch has matrix kernels for bf16 on the processor.

    oneDNN's need AVX-512 on x86 and the bf16 instructions on ARM; without them PyTorch falls back to a plain loop, seen
    to multiply at 1 % of fp32's speed, which nobody would take for a rival.
    """
    isa = hardware.isa.value
    if isa is None or hardware.architecture.value not in TORCH_BF16:
        return Support(ok=True, reason="not known otherwise")
    wanted = TORCH_BF16[hardware.architecture.value]
    if any(name in isa for name in wanted):
        return Support(ok=True, reason="PyTorch has bf16 kernels for this processor")
    return Support(
        ok=False,
        reason=f"PyTorch has no bf16 kernels for a processor without {' or '.join(wanted)}: far slower than fp32 there",
    )


def _npu_note(variant: Variant, hardware: Hardware) -> list[str]:
    has_npu = any(a.available and (a.kind, a.runtime) == ("npu", "openvino") for a in hardware.accelerators)
    if not has_npu or variant.backend != "openvino" or variant.precision != "int4" or variant.symmetric:
        return []
    return ["asymmetric int4 runs on CPU and GPU; OpenVINO's NPU plugin wants symmetric int4 (symmetric: true)"]


def _policy_note(variant: Variant, hardware: Hardware) -> list[str]:
    framework = FRAMEWORK_OF[variant.backend]
    if framework is None or variant.role != "candidate":
        return []
    advice = recommended(framework, hardware)
    row, _ = platform_of(hardware)
    if advice.precision == variant.precision:
        return [f"{advice.precision} is the policy's precision for {framework} on {row}: {advice.reason}"]
    return [f"the policy would take {advice.precision} ({advice.method}) for {framework} on {row}; made to compare"]
