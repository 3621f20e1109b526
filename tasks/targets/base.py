"""A target: where a winner is taken to, as far as the choice of the winner depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tasks.records.base import Support
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe


class Target(Protocol):
    """What one target says of a variant before it is made; packaging for it comes with its deployment."""

    @property
    def name(self) -> str:
        """Name in params.yaml."""
        ...

    @property
    def device(self) -> str:
        """`host`, or a profile of devices.yaml."""
        ...

    def accepts(self, model: ModelProfile, recipe: Recipe) -> Support:
        """Whether an artifact made so can run there; one that cannot is no candidate for this target."""
        ...


class Kind(Protocol):
    """A module that knows one kind of target."""

    def target(self, name: str, device: str) -> Target:
        """The target called `name`."""
        ...


@dataclass(frozen=True)
class Anywhere:
    """A target without a kind: it takes whatever its device runs."""

    name: str
    device: str

    def accepts(self, model: ModelProfile, recipe: Recipe) -> Support:
        """Take everything."""
        return Support(ok=True, reason="no kind of target restricts it")
