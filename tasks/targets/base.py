"""A target: where a winner is taken to. It says what it takes, makes its bundle, and proves what can be proven here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tasks.packaging.manifest import Contents
from tasks.records.base import Support
from tasks.records.bundles import Check, Compared, Part
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe


class Target(Protocol):
    """What one target says of a variant before it is made."""

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
class Shipped:
    """What goes into a bundle: a package that the target's gates passed, or one that is shipped anyway."""

    package: Path  # its folder: model/, tokenizer, package.json, MANIFEST.json
    contents: Contents
    profile: ModelProfile
    name: str  # of the registered model: edgewright-sample
    options: Mapping[str, Any] = field(default_factory=dict)  # of the target's own: targets.NAME.options
    probes: tuple[str, ...] = ()  # texts that answers are compared on
    anyway: str = ""  # why it is shipped although its gates did not pass; empty where they did

    @property
    def model(self) -> Path:
        """The folder of the winner's files as its runtime loads them."""
        return self.package / "model"


@runtime_checkable
class Bundles(Protocol):
    """A target that makes something to ship, beside what it says as a target.

    `build` writes into an empty folder and returns the ledger; `validate` asks the real tools of the target, each of
    which is shown in tests to refuse a broken bundle; `compare` starts the bundle's own engine where it runs here and
    compares its answers with the package's. What cannot run here is `not-measured`, with the reason. All three raise
    UnsupportedError for what cannot be built at all, and ConfigError for options that are not known.
    """

    def build(self, shipped: Shipped, out: Path) -> tuple[Part, ...]:
        """Write the bundle; the same package and options give the same bytes."""
        ...

    def validate(self, bundle: Path) -> tuple[Check, ...]:
        """What validators say of it."""
        ...

    def compare(self, shipped: Shipped, bundle: Path) -> Compared:
        """Whether it answers as the package does."""
        ...


@dataclass(frozen=True)
class Defaults:
    """What a kind of target stands for where params.yaml does not name one: module attribute DEFAULTS."""

    device: str
    budget_mb: float | None = None  # of what is installed, everything counted


@dataclass(frozen=True)
class Anywhere:
    """A target without a kind: it takes whatever its device runs."""

    name: str
    device: str

    def accepts(self, model: ModelProfile, recipe: Recipe) -> Support:
        """Take everything."""
        return Support(ok=True, reason="no kind of target restricts it")
