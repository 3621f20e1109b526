"""Which version stands on more: the pure core, case by case."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.registry.precedence import Passed, Strength, from_tags, strength, to_tags, weaker
from tests import factories as make
from tests.finished import WINNER, report

RETENTION = {"retention": Passed(minimum=0.95, units=40)}
CHAMPION = Strength(
    profile="full", gates={**RETENTION, "decode_speedup": Passed(minimum=2.0), "memory_share": Passed(maximum=0.6)}
)


def like(profile: str = "full", **gates: Any) -> Strength:
    """The champion's strength with other gates; None takes one away."""
    own = {**CHAMPION.gates, **gates}
    return Strength(profile=profile, gates={name: gate for name, gate in own.items() if gate is not None})


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        (like(), ""),
        (like(retention=Passed(minimum=0.95, units=10)), ""),  # fewer rows kept the same limit
        (like(decode_speedup=Passed(minimum=2.5), energy_share=Passed(maximum=1.0)), ""),
        (like(memory_share=Passed(maximum=0.5)), ""),
        (like("quick"), "its profile is quick, the champion's full"),
        (like(decode_speedup=Passed(minimum=1.5)), "decode_speedup had to be from 1.5, the champion's from 2"),
        (like(memory_share=Passed(maximum=0.7)), "memory_share had to be to 0.7, the champion's to 0.6"),
        (like(memory_share=Passed(minimum=0.1)), "memory_share had to be from 0.1, the champion's to 0.6"),
        (like(retention=None), "retention was not judged, the champion's had to be from 0.95 over 40"),
        (
            like("quick", decode_speedup=Passed(minimum=1.5)),
            "its profile is quick, the champion's full; decode_speedup had to be from 1.5, the champion's from 2",
        ),
        (None, "it is not known which gates it passed, and of the champion it is"),
    ],
)
def test_what_makes_a_candidate_weaker(candidate: Strength | None, said: str) -> None:
    assert weaker(candidate, CHAMPION) == said


def test_a_champion_of_which_nothing_is_known_holds_no_place() -> None:
    assert weaker(like("quick"), None) == weaker(None, None) == ""


def test_a_stronger_profile_does_not_make_up_for_a_gate() -> None:
    champion = Strength(profile="quick", gates=RETENTION)
    assert weaker(Strength(profile="full", gates=RETENTION), champion) == ""
    assert weaker(Strength(profile="full", gates={}), champion).startswith("retention was not judged")


def test_profiles_of_other_names_are_not_compared() -> None:
    assert weaker(like("nightly"), CHAMPION) == ""


def test_of_many_gates_three_are_named() -> None:
    champion = Strength(profile="full", gates={f"m{i}": Passed(minimum=1.0) for i in range(5)})
    assert weaker(Strength(profile="full", gates={}), champion).endswith("; and 2 more gates")


numbers = st.none() | st.floats(-10, 10)
gates = st.dictionaries(st.sampled_from("abc"), st.builds(Passed, minimum=numbers, maximum=numbers), max_size=3)
strengths = st.builds(Strength, profile=st.sampled_from(["quick", "full"]), gates=gates)


@given(strengths)
def test_nothing_is_weaker_than_itself_and_tags_tell_it_all(one: Strength) -> None:
    assert weaker(one, one) == ""
    assert from_tags(to_tags(one)) == one


@given(strengths, strengths)
def test_what_is_weaker_both_ways_differs_both_ways(one: Strength, other: Strength) -> None:
    if not weaker(one, other) and not weaker(other, one):
        assert one == other


def test_only_gates_that_were_passed_count() -> None:
    verdict = report(make.recommendation(make.row(WINNER))).verdicts[0]
    row = make.row(WINNER)
    found = strength("full", verdict, row)
    assert found == Strength(
        profile="full", gates={"retention": Passed(minimum=0.95, units=row.metrics["retention"].units)}
    )
    undecided = verdict.expectations[0].model_copy(update={"outcome": "inconclusive"})
    assert strength("full", verdict.model_copy(update={"expectations": (undecided,)}), row).gates == {}


def test_a_version_that_says_nothing_of_its_gates() -> None:
    assert from_tags({"edgewright.verdict": "pass"}) is None
