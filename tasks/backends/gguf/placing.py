"""Where llama.cpp puts a model: on the backends that its library was built with."""

from __future__ import annotations

from pathlib import Path

from tasks.backends.placing import AUTO, CPU
from tasks.records.placement import Fallback, Offered, OnDevice, Placement

OWN = "CPU"


def placed(artifact: Path, requested: str, threads: int) -> Placement:
    """The device that layers go to; llama.cpp ignores what it was built without and says nothing."""
    import llama_cpp

    offers = bool(llama_cpp.llama_supports_gpu_offload())
    reason = "" if offers else "this build of llama.cpp has no backend for GPUs: layers asked for there stay here"
    offered = (Offered(name=OWN, available=True), Offered(name="GPU", available=offers, reason=reason))
    wished = requested not in (AUTO, CPU, OWN)
    on = "GPU" if offers and (requested in (AUTO, "gpu", "GPU")) else OWN
    fallbacks = [
        Fallback(asked=requested, used=OWN, kind="library", reason=reason or f"it has no backend {requested!r}")
    ]
    info = llama_cpp.llama_print_system_info().decode()
    features = [part.split(" = ")[0].strip() for part in info.split("|") if part.strip().endswith("= 1")]
    return Placement(
        backend="gguf",
        requested=requested,
        resolved=on,
        offered=offered,
        fallbacks=tuple(fallbacks) if wished and on == OWN else (),
        devices=(OnDevice(device=on, operators=_tensors(artifact), flops_share=1.0),),
        transfers=0,
        precision="weights as stored, activations q8_0/f16",
        threads=str(threads),
        isa=" ".join(features),
        verified_by="llama_supports_gpu_offload and the build's own list of features",
    )


def _tensors(artifact: Path) -> int:
    from gguf import GGUFReader

    file = next(artifact.glob("*.gguf")) if artifact.is_dir() else artifact
    return sum(len(one.shape) == 2 for one in GGUFReader(file).tensors)
