"""Whether a model's weights are numbers, and not all nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tasks.errors import ModelError
from tasks.kinds.causal_lm.incoming.words import some


def check_numbers(tensors: Iterable[tuple[str, Any]], name: str) -> str:
    """Refuse weights that are NaN or infinite, and a model most of whose matrices are zeros; raises ModelError.

    `tensors` are names and PyTorch tensors. Returns a note about single matrices of zeros, as layers added to a model
    have before they are trained; empty when there is none.
    """
    broken, zeros, matrices = [], [], 0
    for tensor_name, tensor in tensors:
        if not tensor.is_floating_point():
            continue
        finite = tensor.isfinite()
        if not bool(finite.all()):
            count = int((~finite).sum())
            kind = "NaN" if bool(tensor.isnan().any()) else "infinite"
            broken.append(f"{tensor_name} ({count:,} of {tensor.numel():,} values {kind})")
        elif tensor.ndim >= 2:
            matrices += 1
            if not bool(tensor.any()):
                zeros.append(tensor_name)
    if broken:
        raise ModelError(
            f"{name}: weights are no numbers: {some(broken)}. The training broke or the file is damaged; give an "
            "earlier checkpoint, or fetch it again"
        )
    if zeros and (len(zeros) > matrices / 2 or any("embed" in one or "lm_head" in one for one in zeros)):
        raise ModelError(
            f"{name}: {len(zeros)} of {matrices} matrices hold nothing but zeros: {some(zeros)}; the file was written "
            "before the weights were, fetch or save it again"
        )
    return f"matrices of zeros, as the source has them: {some(zeros)}" if zeros else ""
