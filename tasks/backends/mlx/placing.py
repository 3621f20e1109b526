"""Where MLX puts a model: on its default device, Metal's where there is one."""

from __future__ import annotations

from pathlib import Path

from tasks.backends.placing import AUTO, CPU
from tasks.records.placement import Fallback, Offered, OnDevice, Placement


def placed(artifact: Path, requested: str, threads: int) -> Placement:
    """The device that arrays are on; all of a model is on one."""
    import mlx.core as mx

    has_metal = bool(mx.metal.is_available())
    reason = "" if has_metal else "MLX has Metal on Apple Silicon alone"
    used = "gpu" if "gpu" in str(mx.default_device()) else "cpu"
    missed = requested not in (AUTO, CPU) and requested.lower() != used
    fell = (Fallback(asked=requested, used=used, kind="library", reason=reason or f"MLX knows no {requested!r}"),)
    return Placement(
        backend="mlx",
        requested=requested,
        resolved=used,
        offered=(Offered(name="cpu", available=True), Offered(name="gpu", available=has_metal, reason=reason)),
        fallbacks=fell if missed else (),
        devices=(OnDevice(device=used, operators=_tensors(artifact), flops_share=1.0),),
        transfers=0,
        precision="as stored, computed in the type of the activations",
        verified_by="mlx.core.default_device",
    )


def _tensors(artifact: Path) -> int:
    from safetensors import safe_open

    count = 0
    for file in sorted(artifact.glob("*.safetensors")):
        with safe_open(file, "np") as kept:
            count += sum(len(kept.get_slice(name).get_shape()) == 2 for name in kept.keys())  # noqa: SIM118 - no mapping
    return count
