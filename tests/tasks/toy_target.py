"""A target outside of the product: a box whose firmware reads the files of one runtime alone."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.records.base import Support
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe

READS = "gguf"


@dataclass(frozen=True)
class Box:
    """One box."""

    name: str
    device: str

    def accepts(self, model: ModelProfile, recipe: Recipe) -> Support:
        """Take what the firmware reads."""
        if recipe.backend != READS:
            return Support(ok=False, reason=f"the firmware reads {READS}, not {recipe.backend}")
        return Support(ok=True, reason=f"the firmware reads {READS}")


def target(name: str, device: str) -> Box:
    """The box called `name`."""
    return Box(name, device)
