"""Promotion by a passed verdict only, rollback that survives being cut off, and the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.errors import RegistryError
from tasks.packaging.manifest import verify_manifest
from tasks.records import lines as recorded
from tasks.records.terms import Outcome
from tasks.registry import ledger
from tasks.registry.aliases import CANDIDATE, CHAMPION, PENDING, PREVIOUS
from tasks.registry.ledger import LEDGER
from tasks.registry.precedence import Passed, Strength, to_tags
from tasks.registry.tags import RESULTS, VARIANT, VERDICT
from tasks.registry.versions import (
    PromotionRefusedError,
    WeakerError,
    champion,
    follow,
    located,
    promote,
    require_not_weaker,
    rollback,
    show,
)  # fmt: skip
from tasks.track import track
from tests import factories as make
from tests import tracked
from tests.finished import WINNER, report
from tests.tasks.registry.shelf import NAME, REPORT, TAGS, aliases, version


def lines() -> list[tuple[str, str | None, str, str]]:
    return [(e.action, e.from_version, e.to_version, e.why) for e in ledger.read(LEDGER).entries]


def test_a_passed_candidate_becomes_champion_and_the_old_one_previous(client: Any) -> None:
    version(client)
    assert promote(NAME, None, REPORT, "ann", "first").champion == "1"
    assert aliases(client) == {CANDIDATE: "1", CHAMPION: "1"}
    version(client)
    change = promote(NAME, None, REPORT, "bob", "faster")
    assert (change.changed, change.champion, change.previous) == (True, "2", "1")
    assert aliases(client) == {CANDIDATE: "2", CHAMPION: "2", PREVIOUS: "1"}
    assert lines() == [("promote", None, "1", "first"), ("promote", "1", "2", "faster")]
    last = ledger.read(LEDGER).entries[-1]
    assert (last.who, last.model, last.verdict_digest) == ("bob", NAME, REPORT.results_digest)
    assert last.when.endswith("+00:00")


def test_promoting_the_champion_again_changes_nothing(client: Any) -> None:
    version(client)
    promote(NAME, None, REPORT, "ann", "first")
    again = promote(NAME, "1", REPORT, "ann", "again")
    assert (again.changed, again.reason) == (False, "version 1 is champion already")
    assert lines() == [("promote", None, "1", "first")]


def test_a_promotion_cut_off_before_its_line_gets_the_line_later(client: Any) -> None:
    version(client)
    version(client)
    client.set_registered_model_alias(NAME, PREVIOUS, "1")
    client.set_registered_model_alias(NAME, CHAMPION, "2")
    assert not promote(NAME, None, REPORT, "ann", "repeated").changed
    assert lines() == [("promote", "1", "2", "repeated")]


@pytest.mark.parametrize(
    ("outcome", "code"),
    [("fail", 1), ("inconclusive", 3)],
)
def test_only_a_pass_promotes(client: Any, outcome: Outcome, code: int) -> None:
    version(client)
    worse = report(make.recommendation(make.row(WINNER)), outcome=outcome)
    with pytest.raises(PromotionRefusedError, match=f"version 1 stays what it is: the verdict is {outcome}") as caught:
        promote(NAME, None, worse, "ann", "please")
    assert caught.value.exit_code == code
    assert aliases(client) == {CANDIDATE: "1"}
    assert lines() == []


@pytest.mark.parametrize(
    ("update", "code", "text"),
    [
        ({"winner": None}, 3, "the verdict is inconclusive"),
        ({"winner": "gguf-q8_0"}, 1, "the verdict is fail"),
        ({"verdicts": ()}, 3, "the verdict is inconclusive"),
        ({"results_digest": "f" * 64}, 2, "about other results"),
    ],
)
def test_a_report_that_does_not_hold_together_promotes_nothing(client: Any, update: Any, code: int, text: str) -> None:
    version(client)
    with pytest.raises(PromotionRefusedError, match=text) as caught:
        promote(NAME, None, REPORT.model_copy(update=update), "ann", "please")
    assert caught.value.exit_code == code
    assert CHAMPION not in aliases(client)


@pytest.mark.parametrize(
    "change",
    [{VERDICT: "inconclusive"}, {RESULTS: "0" * 64}, {VARIANT: "other"}],
)
def test_a_version_made_from_other_results_is_not_promoted(client: Any, change: dict[str, str]) -> None:
    version(client, TAGS | change)
    with pytest.raises(PromotionRefusedError, match=f"tag {next(iter(change))} is {next(iter(change.values()))}"):
        promote(NAME, None, REPORT, "ann", "please")
    with pytest.raises(PromotionRefusedError, match="is absent"):
        promote(NAME, version(client, {}), REPORT, "ann", "please")


@pytest.mark.parametrize(
    ("name", "number", "text"),
    [
        ("unheard-of", None, "no model 'unheard-of'"),
        (NAME, "7", "tiny has no version '7'"),
        (NAME, "two", "tiny has no version 'two'"),
        (NAME, None, "no version with alias candidate"),
    ],
)
def test_what_is_not_there_is_named(client: Any, name: str, number: str | None, text: str) -> None:
    with pytest.raises(RegistryError, match=text):
        promote(name, number, REPORT, "ann", "please")


def two_champions(client: Any) -> None:
    """Version 2 is champion, version 1 previous."""
    for why in ("first", "second"):
        version(client)
        promote(NAME, None, REPORT, "ann", why)


def test_rollback_swaps_and_swaps_back(client: Any) -> None:
    two_champions(client)
    change = rollback(NAME, "bob", "errors rose")
    assert (change.champion, change.previous) == ("1", "2")
    assert aliases(client) == {CANDIDATE: "2", CHAMPION: "1", PREVIOUS: "2"}
    assert lines()[-1] == ("rollback", "2", "1", "errors rose")
    rollback(NAME, "bob", "false alarm")
    assert aliases(client) == {CANDIDATE: "2", CHAMPION: "2", PREVIOUS: "1"}


@pytest.mark.parametrize("steps", range(5))
def test_a_rollback_cut_off_anywhere_is_finished_by_the_next(
    client: Any, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    two_champions(client)
    done = 0

    def cut(original: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal done
            if done == steps:
                raise KeyboardInterrupt
            done += 1
            return original(*arguments)

        return call

    import mlflow

    with monkeypatch.context() as patched:
        for method in ("set_registered_model_alias", "delete_registered_model_alias"):
            patched.setattr(mlflow.MlflowClient, method, cut(getattr(mlflow.MlflowClient, method)))
        patched.setattr(recorded, "append", cut(recorded.append))
        with pytest.raises(KeyboardInterrupt):
            rollback(NAME, "bob", "errors rose")
    rollback(NAME, "bob", "errors rose")
    assert aliases(client) == {CANDIDATE: "2", CHAMPION: "1", PREVIOUS: "2"}
    assert [line for line in lines() if line[0] == "rollback"] == [("rollback", "2", "1", "errors rose")]


def test_rollback_without_a_previous_version_says_so(client: Any) -> None:
    version(client)
    with pytest.raises(RegistryError, match="no previous version to go back to; its champion is none"):
        rollback(NAME, "bob", "why not")
    promote(NAME, None, REPORT, "ann", "first")
    with pytest.raises(RegistryError, match="its champion is 1"):
        rollback(NAME, "bob", "why not")


def test_a_promotion_ends_a_rollback_that_was_cut_off(client: Any) -> None:
    two_champions(client)
    client.set_registered_model_alias(NAME, PENDING, "1")
    version(client)
    promote(NAME, None, REPORT, "ann", "third")
    assert aliases(client) == {CANDIDATE: "3", CHAMPION: "3", PREVIOUS: "2"}


# -- a champion that passed more ---------------------------------------------------------------------------------------

FULL = TAGS | to_tags(Strength(profile="full", gates={"decode_speedup": Passed(minimum=2.0)}))
QUICK = TAGS | to_tags(Strength(profile="quick", gates={"decode_speedup": Passed(minimum=1.5)}))


def test_a_weaker_version_takes_no_place_unless_told_to(client: Any) -> None:
    version(client, FULL)
    promote(NAME, None, REPORT, "ann", "first")
    version(client, QUICK)
    with pytest.raises(WeakerError, match=r"champion version 1, which passed more: .*VERSION=2 FORCE=1") as caught:
        promote(NAME, None, REPORT, "ann", "quick")
    assert caught.value.exit_code == 2
    assert (aliases(client)[CHAMPION], lines()) == ("1", [("promote", None, "1", "first")])
    with pytest.raises(WeakerError):
        require_not_weaker(NAME, "2")
    assert promote(NAME, None, REPORT, "ann", "all the same", anyway=True).champion == "2"
    last = ledger.last(LEDGER, NAME)
    assert last is not None and last.despite.startswith("its profile is quick, the champion's full; decode_speedup")
    assert show(NAME)[-1].endswith(f"all the same (although {last.despite})")


def test_a_version_that_passed_as_much_takes_the_place(client: Any) -> None:
    for why in ("first", "second"):
        version(client, FULL)
        promote(NAME, None, REPORT, "ann", why)
    require_not_weaker(NAME, "1")
    assert aliases(client)[CHAMPION] == "2"


def test_the_champion_itself_is_not_weaker(client: Any) -> None:
    version(client, QUICK)
    promote(NAME, None, REPORT, "ann", "first")
    assert not promote(NAME, "1", REPORT, "ann", "again").changed
    require_not_weaker(NAME, "1")


def test_the_ledger_tells_of_a_weaker_version_that_got_the_traffic(client: Any) -> None:
    one, two = version(client, FULL), version(client, QUICK)
    follow(NAME, one, False, "router", "the first")
    follow(NAME, two, False, "router", "took over")
    assert [bool(entry.despite) for entry in ledger.read(LEDGER).entries] == [False, True]


# -- the alias follows the traffic -------------------------------------------------------------------------------------


def test_the_alias_follows_the_traffic_and_back(client: Any) -> None:
    one, two = version(client), version(client)
    assert champion(NAME) is None
    assert follow(NAME, one, False, "router", "the first").changed
    assert follow(NAME, two, False, "router", "took over").previous == one
    assert not follow(NAME, two, False, "router", "took over").changed
    assert follow(NAME, one, True, "router", "was slow").champion == one
    assert champion(NAME) == one and aliases(client)[PREVIOUS] == two
    assert lines() == [
        ("promote", None, one, "the first"),
        ("promote", one, two, "took over"),
        ("rollback", two, one, "was slow"),
    ]


def test_a_version_without_a_pass_does_not_become_champion_by_traffic(client: Any) -> None:
    failed = version(client, TAGS | {VERDICT: "fail"})
    with pytest.raises(PromotionRefusedError, match="its verdict is fail"):
        follow(NAME, failed, False, "router", "why")
    assert CHAMPION not in aliases(client)


def test_an_alias_that_was_moved_without_its_line_gets_the_line_later(client: Any) -> None:
    one, two = version(client), version(client)
    follow(NAME, one, False, "router", "the first")
    client.set_registered_model_alias(NAME, PREVIOUS, one)
    client.set_registered_model_alias(NAME, CHAMPION, two)  # and then the process was killed
    assert not follow(NAME, two, False, "router", "took over").changed
    assert lines()[-1] == ("promote", one, two, "took over")


@pytest.mark.slow
def test_the_package_of_a_version_is_found_to_be_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked.project(tmp_path, monkeypatch)
    results = tracked.packaged()
    noted = track(results)
    with pytest.raises(RegistryError, match="no champion"):
        located(noted.model_name, CHAMPION)
    promote(noted.model_name, noted.version, results.report, "ann", "passed")
    found = located(noted.model_name, CHAMPION)
    assert found == located(noted.model_name, str(noted.version))
    assert found.version == str(noted.version)
    assert verify_manifest(found.package, found.manifest_sha256) == found.manifest_sha256
    own = tracked.client()
    own.set_model_version_tag(noted.model_name, found.version, VERDICT, "fail")
    with pytest.raises(RegistryError, match="its verdict is fail"):
        located(noted.model_name, found.version)
