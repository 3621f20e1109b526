"""How a new version takes over the traffic, step by step, on evidence. Pure: state and evidence in, state out.

    idle ─deploy─> staging ─checks passed─> shadow ─outputs agree─> ramp 1, 5, 25, 50, 100 ─> promote ─> idle
                      └──────────────┴───────────── any breach ─────┴────────> rollback ─> idle
                                     └─> ab: a fixed share, until it is ended or promoted ─┘
    idle ─repair─> staging ─checks passed─> promote ─> idle: what serves cannot stay, so nothing is compared with it

Two slots, blue and green. The champion's slot answers whatever the challenger's share does not take; after a promotion
the old champion stays warm in the other slot. Nothing advances blind: an inconclusive verdict holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import model_validator

from tasks.errors import ConfigError
from tasks.promotion.judge import Judgement
from tasks.records.base import Record
from tasks.records.older import with_new_names
from tasks.serve.options import ServerOptions

Color = Literal["blue", "green"]
Phase = Literal["idle", "staging", "shadow", "ramp", "ab", "promote", "rollback"]
Goal = Literal["promote", "ab", "back", "repair"]
SHARES = (1.0, 5.0, 25.0, 50.0, 100.0)  # percent of the traffic, one step of the ramp after the other
OTHER: dict[Color, Color] = {"blue": "green", "green": "blue"}


class Slot(Record):
    """Contents of one slot; empty when it serves nothing."""

    version: str = ""
    package: str = ""
    manifest_sha256: str = ""
    options: ServerOptions = ServerOptions()
    restart: int = 0  # a higher number is the same in a fresh process

    @model_validator(mode="before")
    @classmethod
    def _older(cls, raw: Any) -> Any:
        """Read what was written when `options` was called `running`, and `restart` `turn`."""
        return with_new_names(raw, {"running": "options", "turn": "restart"})


class Times(Record):
    """A sample of the times that callers' requests took, milliseconds each."""

    first_ms: tuple[float, ...] = ()
    between_ms: tuple[float, ...] = ()


class State(Record):
    """State of a rollout, which survives the router's death."""

    phase: Phase = "idle"
    champion: Color = "blue"
    blue: Slot = Slot()
    green: Slot = Slot()
    goal: Goal = "promote"
    ab_share: float = 50.0  # percent of the traffic, in an A/B test
    shares: tuple[float, ...] = SHARES
    step: int = 0  # of them, in a ramp
    since: float = 0.0  # when this phase or step began, seconds since the epoch
    carried: Times = Times()  # the champion's, while it had all callers: what the challenger is compared with at 100%
    reason: str = ""
    who: str = ""  # who asked for what is under way
    alias: str = ""  # the version that the registry was last seen to call champion
    order: str = ""  # the last order that was carried out

    @property
    def challenger(self) -> Color:
        """The slot that is not the champion's."""
        return OTHER[self.champion]

    @property
    def leaving(self) -> Color:
        """The slot that a rollback empties: the challenger's, or the champion's where it was the first ever."""
        return self.challenger if self.slot(self.challenger).version else self.champion

    def slot(self, color: Color) -> Slot:
        """Contents of the slot of a color."""
        return self.blue if color == "blue" else self.green

    @property
    def share(self) -> float:
        """Percent of the traffic that the challenger answers."""
        if self.phase == "promote":
            return 100.0
        if self.phase == "ab":
            return self.ab_share
        return self.shares[self.step] if self.phase == "ramp" else 0.0

    @property
    def settled(self) -> bool:
        """Tell whether the registry says what the traffic says."""
        return self.phase != "idle" or self.alias == self.slot(self.champion).version


def deploy(state: State, new: Slot, now: float, goal: Goal = "promote", share: float = 50.0) -> State:
    """Begin with a version in the slot that is free; raises ConfigError while another is under way.

    A version that is in an A/B test goes on from there when it is to be promoted.
    """
    if state.phase == "ab" and goal == "promote" and new.version == state.slot(state.challenger).version:
        return _with(state, now, f"version {new.version} is to take over after its A/B test", phase="ramp", goal=goal)
    if state.phase != "idle":
        under_way = state.slot(state.challenger).version
        raise ConfigError(f"version {under_way} is under way ({state.phase}); wait for its end, or roll it back")
    if goal == "repair":
        return _repair(state, new, now)
    if new.version == state.slot(state.champion).version:
        raise ConfigError(f"version {new.version} is the champion already")
    if not state.slot(state.champion).version:  # the first ever: there is nothing to compare it with
        said = f"version {new.version} is the first"
        return _with(state, now, said, {state.champion: new}, phase="staging", goal="promote")
    said = "take over" if goal == "promote" else f"be compared at {share:g}% of the traffic"
    why = f"version {new.version} is to {said}"
    return _with(state, now, why, {state.challenger: new}, phase="staging", goal=goal, ab_share=share, step=0)


def _repair(state: State, new: Slot, now: float) -> State:
    if not state.slot(state.champion).version:
        raise ConfigError("nothing is served that could be repaired")
    if new == state.slot(state.champion):
        raise ConfigError(f"version {new.version} serves with {new.options.said} already")
    why = f"version {new.version} with {new.options.said} is to take over at once"
    return _with(state, now, why, {state.challenger: new}, phase="staging", goal="repair", step=0)


def release(state: State, now: float) -> State:
    """Give up the version that is kept warm, with the memory it takes; raises ConfigError where none is."""
    if state.phase != "idle" or not state.slot(state.challenger).version:
        raise ConfigError("no version is kept warm")
    said = f"version {state.slot(state.challenger).version} is no longer kept warm"
    return _with(state, now, said, {state.challenger: Slot()})


def advance(state: State, judgement: Judgement, now: float) -> State:
    """Derive what follows from a verdict on the phase or step that is under way."""
    if state.phase in ("idle", "promote", "rollback") or judgement.outcome == "inconclusive":
        return state
    said = "; ".join(judgement.reasons)
    if judgement.outcome == "fail":
        return roll_back(state, said, now)
    if state.phase == "staging":
        at_once = state.goal == "repair" or not state.slot(state.challenger).version
        return _with(state, now, said, phase="promote" if at_once else "shadow")
    if state.phase == "shadow":
        return _with(state, now, said, phase="ab" if state.goal == "ab" else "ramp", step=0)
    if state.phase == "ab":  # the test goes on until somebody ends it: a verdict is shown, and only a breach acts
        return state
    if state.step + 1 < len(state.shares):
        return _with(state, now, said, step=state.step + 1)
    return _with(state, now, said, phase="promote")


def roll_back(state: State, why: str, now: float) -> State:
    """All traffic back to the champion, at once; from idle, to the version that is kept warm."""
    if state.phase == "idle":
        if not state.slot(state.challenger).version:
            raise ConfigError("there is no version to go back to: the other slot is empty")
        return _with(state, now, why, phase="promote", goal="back")
    return _with(state, now, why, phase="rollback")


def finish(state: State, alias: str, now: float) -> State:
    """The world has followed: the registry calls `alias` champion, or the challenger's process is gone."""
    if state.phase == "promote":
        alone = not state.slot(state.challenger).version
        champion = state.champion if alone else state.challenger
        return _with(state, now, state.reason, phase="idle", champion=champion, step=0, alias=alias)
    if state.phase == "rollback":
        return _with(state, now, state.reason, {state.leaving: Slot()}, phase="idle", step=0, alias=alias)
    return state.model_copy(update={"alias": alias})


def _with(state: State, now: float, why: str, slots: Mapping[str, Slot] | None = None, **changes: object) -> State:
    return state.model_copy(update={**changes, **(slots or {}), "since": now, "reason": why})
