"""How a new version takes over the traffic, step by step, on evidence. Pure: state and evidence in, state out.

    idle ─deploy─> staging ─checks passed─> shadow ─outputs agree─> ramp 1, 5, 25, 50, 100 ─> promote ─> idle
                      └──────────────┴───────────── any breach ─────┴────────> rollback ─> idle

Two slots, blue and green. The champion's slot answers whatever the challenger's share does not take; after a promotion
the old champion stays warm in the other slot. Nothing advances blind: an inconclusive verdict holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tasks.errors import ConfigError
from tasks.records import Record
from tasks.serve.judge import Judgement

Color = Literal["blue", "green"]
Phase = Literal["idle", "staging", "shadow", "ramp", "promote", "rollback"]
SHARES = (1.0, 5.0, 25.0, 50.0, 100.0)  # percent of the traffic
OTHER: dict[Color, Color] = {"blue": "green", "green": "blue"}


class Slot(Record):
    """What one slot serves; empty when nothing."""

    version: str = ""
    package: str = ""
    manifest_sha256: str = ""


class State(Record):
    """Where the rollout stands; what survives the router's death."""

    phase: Phase = "idle"
    champion: Color = "blue"
    blue: Slot = Slot()
    green: Slot = Slot()
    step: int = 0  # of SHARES, in a ramp
    since: float = 0.0  # when this phase or step began, seconds since the epoch
    reason: str = ""
    alias: str = ""  # the version that the registry was last seen to call champion

    @property
    def challenger(self) -> Color:
        """The slot that is not the champion's."""
        return OTHER[self.champion]

    def slot(self, color: Color) -> Slot:
        """What a slot serves."""
        return self.blue if color == "blue" else self.green

    @property
    def share(self) -> float:
        """Percent of the traffic that the challenger answers."""
        if self.phase == "promote":
            return 100.0
        return SHARES[self.step] if self.phase == "ramp" else 0.0

    @property
    def mirrored(self) -> bool:
        """Whether the challenger is asked what the champion is asked, its answers compared and thrown away."""
        return self.phase == "shadow"

    @property
    def settled(self) -> bool:
        """Whether the registry says what the traffic says."""
        return self.phase != "idle" or self.alias == self.slot(self.champion).version


def deploy(state: State, new: Slot, now: float) -> State:
    """Begin with a version in the slot that is free; raises ConfigError while another is under way."""
    if state.phase != "idle":
        under_way = state.slot(state.challenger).version
        raise ConfigError(f"version {under_way} is under way ({state.phase}); wait for its end, or roll it back")
    if new.version == state.slot(state.champion).version:
        raise ConfigError(f"version {new.version} is the champion already")
    if not state.slot(state.champion).version:  # the first ever: there is nothing to compare it with
        return _with(state, now, f"version {new.version} is the first", {state.champion: new}, phase="staging")
    return _with(state, now, f"version {new.version} is to take over", {state.challenger: new}, phase="staging")


def advance(state: State, judgement: Judgement, now: float) -> State:
    """What follows from a verdict on the phase or step that is under way."""
    if state.phase in ("idle", "promote", "rollback") or judgement.outcome == "inconclusive":
        return state
    said = "; ".join(judgement.reasons)
    if judgement.outcome == "fail":
        return roll_back(state, said, now)
    if state.phase == "staging":
        alone = not state.slot(state.challenger).version
        return _with(state, now, said, phase="promote" if alone else "shadow")
    if state.phase == "shadow":
        return _with(state, now, said, phase="ramp", step=0)
    if state.step + 1 < len(SHARES):
        return _with(state, now, said, step=state.step + 1)
    return _with(state, now, said, phase="promote")


def roll_back(state: State, why: str, now: float) -> State:
    """All traffic back to the champion, at once; from idle, back to the version that is kept warm."""
    if state.phase == "idle":
        if not state.slot(state.challenger).version:
            raise ConfigError("there is no version to go back to: the other slot is empty")
        return _with(state, now, why, champion=state.challenger, phase="promote")
    return _with(state, now, why, phase="rollback")


def finish(state: State, alias: str, now: float) -> State:
    """The world has followed: the registry calls `alias` champion, or the challenger's process is gone."""
    if state.phase == "promote":
        alone = not state.slot(state.challenger).version or alias == state.slot(state.champion).version
        champion = state.champion if alone else state.challenger
        return _with(state, now, state.reason, phase="idle", champion=champion, step=0, alias=alias)
    if state.phase == "rollback":
        return _with(state, now, state.reason, {state.challenger: Slot()}, phase="idle", step=0, alias=alias)
    return state.model_copy(update={"alias": alias})


def _with(state: State, now: float, why: str, slots: Mapping[str, Slot] | None = None, **changes: object) -> State:
    return state.model_copy(update={**changes, **(slots or {}), "since": now, "reason": why})
