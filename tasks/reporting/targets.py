"""What the gates of each of several targets said, as text; nothing where there is one target."""

from __future__ import annotations

from typing import NamedTuple

from tasks.reporting.findings import Scores
from tasks.reporting.table import TONES, Tone

HEADS = ("target", "device", "verdict", "winner", "why")


class TargetLine(NamedTuple):
    """One target, its cells in the order of HEADS."""

    target: str
    device: str
    verdict: str
    winner: str
    why: str

    @property
    def tone(self) -> Tone:
        """How the verdict is shown."""
        return TONES[self.verdict]


def lines(scores: Scores) -> list[TargetLine]:
    """A line per target, the first one first: whose winner is packaged and registered."""
    return [
        TargetLine(one.target, one.device, one.report.outcome, one.report.winner or "none", one.report.reason)
        for one in scores.targets
    ]
