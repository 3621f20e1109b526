"""The rollout's state machine: the way up, the way back from everywhere, and that nothing advances blind."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import ConfigError
from tasks.params.serving import more_errors
from tasks.promotion import rollout, traffic
from tasks.promotion.judge import Judgement, Outcome
from tasks.promotion.rollout import SHARES, Slot, State
from tasks.serve.options import ServerOptions

ONE, TWO, THREE = (Slot(version=str(n), package=f"p{n}") for n in (1, 2, 3))


def verdict(outcome: Outcome) -> Judgement:
    return Judgement(outcome, {}, (f"it is a {outcome}",))


def serving(first: Slot = ONE) -> State:
    """One champion, nothing else."""
    state = rollout.advance(rollout.deploy(State(), first, 1.0), verdict("pass"), 2.0)
    return rollout.finish(state, first.version, 3.0)


def through(state: State, *outcomes: Outcome) -> State:
    for outcome in outcomes:
        state = rollout.advance(state, verdict(outcome), state.since + 1)
    return state


def test_the_first_version_has_nothing_to_be_compared_with() -> None:
    state = serving()
    assert (state.phase, state.slot(state.champion), state.share, state.settled) == ("idle", ONE, 0.0, True)


def test_the_way_up() -> None:
    state = rollout.deploy(serving(), TWO, 10.0)
    seen = [(state.phase, state.share)]
    while state.phase != "promote":
        state = through(state, "pass")
        seen.append((state.phase, state.share))
    assert seen == [("staging", 0.0), ("shadow", 0.0), *(("ramp", share) for share in SHARES), ("promote", 100.0)]
    state = rollout.finish(state, "2", 99.0)
    assert (state.phase, state.slot(state.champion), state.slot(state.challenger)) == ("idle", TWO, ONE)
    assert state.settled


@pytest.mark.parametrize("passes", range(7))
def test_a_breach_rolls_back_from_everywhere(passes: int) -> None:
    before = serving()
    state = through(rollout.deploy(before, TWO, 10.0), *["pass"] * passes, "fail")
    assert (state.phase, state.share, state.reason) == ("rollback", 0.0, "it is a fail")
    state = rollout.finish(state, "1", 99.0)
    assert (state.phase, state.slot(state.champion), state.slot(state.challenger)) == ("idle", ONE, Slot())


def test_a_champion_is_rolled_back_to_the_version_that_is_warm() -> None:
    state = rollout.finish(through(rollout.deploy(serving(), TWO, 10.0), *["pass"] * 7), "2", 99.0)
    back = rollout.finish(rollout.roll_back(state, "by hand", 100.0), "1", 101.0)
    assert (back.slot(back.champion), back.slot(back.challenger), back.settled) == (ONE, TWO, True)


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ConfigError, match="version 1 is the champion already"):
        rollout.deploy(serving(), ONE, 10.0)
    with pytest.raises(ConfigError, match=r"version 2 is under way \(staging\)"):
        rollout.deploy(rollout.deploy(serving(), TWO, 10.0), THREE, 11.0)
    with pytest.raises(ConfigError, match="the other slot is empty"):
        rollout.roll_back(serving(), "by hand", 10.0)


@given(st.lists(st.sampled_from(["pass", "fail", "inconclusive"]), max_size=12))
def test_share_only_grows_by_passes_and_a_record_survives(outcomes: list[Outcome]) -> None:
    state = rollout.deploy(serving(), TWO, 10.0)
    for outcome in outcomes:
        after = through(state, outcome)
        if outcome != "pass":
            assert after.share <= state.share
        if outcome == "inconclusive":
            assert after == state
        assert after.slot(after.champion) == ONE  # until the world has followed
        assert State.model_validate_json(after.model_dump_json()) == after
        state = after


def test_a_caller_stays_with_the_challenger_while_its_share_grows() -> None:
    keys = [f"caller {number}" for number in range(4000)]
    before: set[str] = set()
    for share in SHARES:
        now = {key for key in keys if traffic.to_challenger(key, "2", share)}
        assert before <= now and len(now) / len(keys) == pytest.approx(share / 100, abs=0.02)
        before = now
    assert not any(traffic.to_challenger(key, "2", 0.0) for key in keys)


def test_an_ab_test_stays_until_it_is_ended_or_promoted() -> None:
    state = through(rollout.deploy(serving(), TWO, 10.0, "ab", 20.0), "pass", "pass")
    assert (state.phase, state.share) == ("ab", 20.0)
    assert through(state, "pass") == through(state, "inconclusive") == state
    assert through(state, "fail").phase == "rollback"
    with pytest.raises(ConfigError, match=r"under way \(ab\)"):
        rollout.deploy(state, THREE, 11.0)
    ramp = rollout.deploy(state, TWO, 12.0)
    assert (ramp.phase, ramp.goal, ramp.share) == ("ramp", "promote", SHARES[0])
    back = rollout.finish(rollout.roll_back(state, "seen enough", 13.0), "1", 14.0)
    assert (back.phase, back.slot(back.champion), back.slot(back.challenger)) == ("idle", ONE, Slot())


def test_a_first_version_that_fails_leaves_nothing() -> None:
    state = through(rollout.deploy(State(), ONE, 1.0), "fail")
    empty = rollout.finish(state, "", 3.0)
    assert (empty.phase, empty.blue, empty.green) == ("idle", Slot(), Slot())


def test_a_ramp_has_the_steps_it_was_begun_with() -> None:
    state = rollout.deploy(serving().model_copy(update={"shares": (10.0, 100.0)}), TWO, 10.0)
    seen = []
    while state.phase != "promote":
        state = through(state, "pass")
        seen.append(state.share)
    assert seen == [0.0, 10.0, 100.0, 100.0]
    allowed = [more_errors(share) for share in SHARES]
    assert allowed == sorted(allowed, reverse=True) and allowed[-1] == pytest.approx(0.02)


def test_a_state_that_was_written_with_older_names_is_read() -> None:
    slot = Slot(version="1", options=ServerOptions(threads=1), restart=2)
    older = State(blue=slot).model_dump(mode="json")
    older["blue"]["running"], older["blue"]["turn"] = older["blue"].pop("options"), older["blue"].pop("restart")
    assert State.model_validate_json(json.dumps(older)) == State(blue=slot)
