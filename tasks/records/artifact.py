"""What a conversion made, and the package of the winner."""

from __future__ import annotations

from tasks.records.base import Record
from tasks.records.plan import Recipe
from tasks.records.terms import Outcome, Status


class Check(Record):
    """The check every artifact passes before it is measured."""

    distance: float  # of its outputs from the reference's on the probe
    distance_limit: float
    distance_name: str = "mean KL in nats"
    agreement: float  # share of the probe's units with the same top answer
    units: int  # tokens or examples of the probe
    text: str = ""  # what it answered, where the kind answers in words
    tensor_share: dict[str, float]  # type -> share of the weights, counted in the file
    precision_found: str


class Artifact(Record):
    """Result of `convert`: the files of one variant, or the reason why there are none."""

    variant: str
    status: Status
    reason: str
    command: str  # repeats this conversion alone
    recipe: Recipe
    size_mb: float | None = None
    files: tuple[str, ...] = ()
    check: Check | None = None
    seconds: float | None = None
    versions: dict[str, str] = {}


class Package(Record):
    """The winner's folder, or why there is none."""

    status: Status
    reason: str
    variant: str | None
    verdict: Outcome
    size_mb: float = 0.0
    manifest_sha256: str = ""
