"""Targets behind this project's own server, on a machine or in a pod."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.backends.table import backend
from tasks.records.base import Support
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe


@dataclass(frozen=True)
class Served:
    """One that `python -m tasks.serve` answers from."""

    name: str
    device: str

    def accepts(self, model: ModelProfile, recipe: Recipe) -> Support:
        """Whether the server can open the artifact."""
        if model.family not in backend(recipe.backend).FAMILIES:
            reason = f"the server has no engine of {recipe.backend} for it, which runs no {model.family}"
            return Support(ok=False, reason=reason)
        return Support(ok=True, reason=f"the server has an engine of {recipe.backend}")


def target(name: str, device: str) -> Served:
    """The target called `name`."""
    return Served(name, device)
