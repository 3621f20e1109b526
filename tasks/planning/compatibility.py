"""Say which frameworks convert an architecture, and why or why not (S3)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tasks.planning.matrix import Known, architectures, mlx_aliases
from tasks.records.base import Support


def compatibility(architecture: str, model_type: str, modality: str) -> dict[str, Support]:
    """Support per framework. What no table knows is tried, so that a conversion tells, not a guess.

    Nothing for a modality that the tables do not have: backends are asked then.
    """
    return {
        framework: support(architecture, model_type, known)
        for framework, modalities in architectures().items()
        for name, known in modalities.items()
        if name == modality
    }


def support(architecture: str, model_type: str, entry: Known) -> Support:
    """Tell whether the framework described by `entry` converts the architecture."""
    if entry.none:
        return Support(ok=False, reason=entry.none)
    if entry.exported:
        return Support(ok=True, reason=entry.exported)
    if entry.modules:
        return has_module(entry.modules, model_type)
    if architecture in entry.unsupported:
        return Support(ok=False, reason=f"{architecture}: {entry.unsupported[architecture]}")
    if architecture in entry.known:
        return Support(ok=True, reason=entry.needs or f"{architecture} is in the table of known architectures")
    if model_type in entry.types:
        return Support(ok=True, reason=f"model type {model_type!r}: {entry.needs}")
    if entry.closed:
        return Support(ok=False, reason=f"{entry.closed} has no builder for {architecture}; try another framework")
    return Support(
        ok=True, reason=f"{architecture} is not in the table of known architectures; conversion will be tried"
    )


def has_module(package: str, model_type: str) -> Support:
    """Tell whether `package` has a module for the model type: looked up as a file, as importing takes seconds."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return Support(ok=True, reason=f"{package} is not installed here, so not checked; conversion will be tried")
    name = mlx_aliases().get(model_type, model_type)
    if any((Path(folder) / "models" / f"{name}.py").is_file() for folder in found.submodule_search_locations):
        return Support(ok=True, reason=f"{package} has a module for model type {model_type!r}")
    return Support(ok=False, reason=f"{package} has no module for model type {model_type!r}; try another framework")
