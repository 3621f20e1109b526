"""Which of two versions stands on more: a version that passed less does not become champion by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tasks.records.base import Record
from tasks.records.scores import ScoreRow
from tasks.records.verdict import Verdict
from tasks.registry.tags import GATES, PROFILE

PROFILES = ("quick", "full")  # the weaker first; a profile of another name is compared with none
SHOWN = 3  # gates that are named


class Passed(Record):
    """One gate that a version passed: its limit, and over how many rows or pairs of blocks it was measured."""

    minimum: float | None = None
    maximum: float | None = None
    units: int | None = None

    @property
    def allowed(self) -> str:
        """The limit in words."""
        ends = (("from", self.minimum), ("to", self.maximum))
        over = f" over {self.units}" if self.units is not None else ""
        return " ".join(f"{word} {value:g}" for word, value in ends if value is not None) + over


class Strength(Record):
    """Profile that a version was measured by, and the gates it passed, by metric."""

    profile: str
    gates: dict[str, Passed]


def strength(profile: str, verdict: Verdict, row: ScoreRow) -> Strength:
    """The strength of a verdict that was made from a row of the scorecard."""
    gates = {
        one.metric: Passed(
            minimum=one.minimum,
            maximum=one.maximum,
            units=row.metrics[one.metric].units if one.metric in row.metrics else None,
        )
        for one in verdict.expectations
        if one.outcome == "pass"
    }
    return Strength(profile=profile, gates=gates)


def to_tags(found: Strength) -> dict[str, str]:
    """Strength as tags of a version."""
    gates = {metric: gate.model_dump(exclude_none=True) for metric, gate in sorted(found.gates.items())}
    return {PROFILE: found.profile, GATES: json.dumps(gates)}


def from_tags(tags: Mapping[str, str]) -> Strength | None:
    """Strength as a version's tags tell it; None for a version that was registered before they did."""
    if GATES not in tags:
        return None
    return Strength.model_validate({"profile": tags.get(PROFILE, ""), "gates": json.loads(tags[GATES])})


def weaker(candidate: Strength | None, champion: Strength | None) -> str:
    """Say why a candidate must not take a champion's place by itself; empty when it may.

    It is weaker when it was measured by a weaker profile, or lacks a gate that the champion passed, or passed a looser
    one. Nothing is held against it where the champion's own strength is not known.

    >>> full = Strength(profile="full", gates={"decode_speedup": Passed(minimum=2.0)})
    >>> weaker(Strength(profile="quick", gates={"decode_speedup": Passed(minimum=1.5)}), full)
    "its profile is quick, the champion's full; decode_speedup had to be from 1.5, the champion's from 2"
    >>> weaker(full, full)
    ''
    """
    if champion is None:
        return ""
    if candidate is None:
        return "it is not known which gates it passed, and of the champion it is"
    reasons = []
    if champion.profile in PROFILES and candidate.profile in PROFILES[: PROFILES.index(champion.profile)]:
        reasons.append(f"its profile is {candidate.profile}, the champion's {champion.profile}")
    lost = [_loss(metric, candidate.gates.get(metric), gate) for metric, gate in champion.gates.items()]
    named = [one for one in lost if one]
    reasons += named[:SHOWN] + ([f"and {len(named) - SHOWN} more gates"] if len(named) > SHOWN else [])
    return "; ".join(reasons)


def _loss(metric: str, own: Passed | None, champion: Passed) -> str:
    """How a gate is looser than the champion's, in words; empty when it is not."""
    if own is None:
        return f"{metric} was not judged, the champion's had to be {champion.allowed}"
    low = champion.minimum is not None and (own.minimum is None or own.minimum < champion.minimum)
    high = champion.maximum is not None and (own.maximum is None or own.maximum > champion.maximum)
    return f"{metric} had to be {own.allowed}, the champion's {champion.allowed}" if low or high else ""
