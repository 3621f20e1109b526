"""Promotion by a passed verdict only, rollback that survives being cut off, and the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks import ledger, paths, registry
from tasks.errors import RegistryError, ResourceError
from tasks.ledger import LEDGER, Entry
from tasks.records import GateReport, Outcome
from tasks.registry import CANDIDATE, CHAMPION, PENDING, PREVIOUS, PromotionRefusedError, promote, rollback
from tests import factories as make
from tests.finished import WINNER, database, finished, report

NAME = "tiny"
REPORT = report(make.recommendation(make.row(WINNER)))
TAGS = {registry.VERDICT: "pass", registry.RESULTS: REPORT.results_digest, registry.VARIANT: WINNER}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An MLflow store with one registered model; every version is about the same results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database(tmp_path / "store.db"))
    monkeypatch.setenv("EDGEWRIGHT_ACTOR", "ann")
    for name, value in registry.SETTINGS.items():
        monkeypatch.setenv(name, value)
    import mlflow

    made = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'store.db'}")
    made.create_registered_model(NAME)
    return made


def version(client: Any, tags: Mapping[str, str] = TAGS, candidate: bool = True) -> str:
    made = client.create_model_version(NAME, Path.cwd().as_uri(), tags=dict(tags))
    if candidate:
        client.set_registered_model_alias(NAME, CANDIDATE, made.version)
    return str(made.version)


def aliases(client: Any) -> dict[str, str]:
    return {alias: str(v) for alias, v in client.get_registered_model(NAME).aliases.items()}


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
    [{registry.VERDICT: "inconclusive"}, {registry.RESULTS: "0" * 64}, {registry.VARIANT: "other"}],
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
        patched.setattr(ledger, "append", cut(ledger.append))
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


def test_the_commands(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    finished()
    model = ["--model", NAME]
    digest = GateReport.read(paths.VERDICTS).results_digest
    for _ in range(2):
        version(client, TAGS | {registry.RESULTS: digest})
        assert registry.main(["promote", *model, "--why", "better"]) == 0
    assert registry.main(["rollback", *model]) == 0
    assert registry.main(["show", *model]) == 0
    out = capsys.readouterr().out
    assert "tiny: version 2 is champion, version 1 is previous" in out
    assert "tiny version 1: openvino-int8, verdict pass, champion" in out
    assert "tiny version 2: openvino-int8, verdict pass, candidate, previous" in out
    assert " ann rollback: 2 -> 1, rolled back by hand" in out


@pytest.mark.parametrize(("outcome", "code"), [("fail", 1), ("inconclusive", 3)])
def test_the_commands_exit_code_is_the_verdicts(
    client: Any, capsys: pytest.CaptureFixture[str], outcome: Outcome, code: int
) -> None:
    finished(outcome=outcome)
    version(client)
    assert registry.main(["promote", "--model", NAME]) == code
    assert f"error: tiny version 1 stays what it is: the verdict is {outcome}" in capsys.readouterr().err


def test_the_commands_take_the_models_name_from_the_parameters(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    finished()
    assert registry.main(["rollback"]) == 2
    assert "the registry has no model 'edgewright-sample'" in capsys.readouterr().err


def test_an_unreachable_server_is_named_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"MLflow at http://127.0.0.1:9 did not do its part.*tasks.registry promote"
                       ) as caught:  # fmt: skip
        promote(NAME, None, REPORT, "ann", "please")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("openvino", {"openvino==1", "openvino-genai==2", "openvino-tokenizers", "mlflow==3"}),
        ("gguf", {"llama-cpp-python==4", "mlflow==3"}),
        ("mlx", {"mlx==5 ; sys_platform == 'linux'", "mlx-cpu==5 ; sys_platform == 'linux'", "mlx-lm", "mlflow==3"}),
    ],
)
def test_requirements_come_from_the_lock(tmp_path: Path, backend: Any, expected: set[str]) -> None:
    lock = tmp_path / "lock"
    mlx = "mlx==5 ; sys_platform == 'linux'\nmlx-cpu==5 ; sys_platform == 'linux'\n"
    lock.write_text(f"mlflow==3\nmlflow-skinny==3\nopenvino==1\nopenvino-genai==2\nllama-cpp-python==4\n{mlx}")
    found = set(registry.requirements(backend, lock))
    assert found - {"numpy", "pandas", "pydantic", "pyyaml", "transformers", "tokenizers", "jinja2"} == expected


# ledger


def entry(**changes: Any) -> Entry:
    fields = {"when": ledger.now(), "who": "ann", "action": "promote", "model": NAME, "from_version": None}
    return Entry.model_validate(fields | {"to_version": "1", "why": "", "verdict_digest": ""} | changes)


def test_an_absent_ledger_is_empty(tmp_path: Path) -> None:
    assert ledger.read(tmp_path / "none.jsonl") == ledger.History(entries=())


def test_a_line_that_was_cut_off_costs_only_itself(tmp_path: Path) -> None:
    book = tmp_path / "ledger.jsonl"
    ledger.append(book, entry(to_version="1"))
    ledger.append(book, entry(to_version="2"))
    book.write_bytes(book.read_bytes()[:-20])
    assert ([e.to_version for e in ledger.read(book).entries], ledger.read(book).unreadable) == (["1"], 1)
    ledger.append(book, entry(to_version="3"))
    assert ([e.to_version for e in ledger.read(book).entries], ledger.read(book).unreadable) == (["1", "3"], 1)


def test_the_history_of_one_model(tmp_path: Path) -> None:
    book = tmp_path / "ledger.jsonl"
    for model in ("a", "b", "a"):
        ledger.append(book, entry(model=model))
    assert len(ledger.read(book, "a").entries) == 2


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(whys=st.lists(st.text(), min_size=1, max_size=4), cut=st.integers(1, 60))
def test_whatever_was_said_is_read_back(tmp_path: Path, whys: list[str], cut: int) -> None:
    book = tmp_path / "book.jsonl"
    book.unlink(missing_ok=True)
    said = [entry(why=why) for why in whys]
    for one in said:
        ledger.append(book, one)
    assert ledger.read(book).entries == tuple(said)
    book.write_bytes(book.read_bytes()[:-cut])
    kept = ledger.read(book).entries
    assert kept in (tuple(said), tuple(said[:-1]))


def test_a_ledger_line_is_plain_json(tmp_path: Path) -> None:
    ledger.append(tmp_path / "l", entry(why="a\nb", who="zoë"))
    assert json.loads((tmp_path / "l").read_text().strip())["who"] == "zoë"


def test_a_ledger_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ResourceError, match="the ledger .* cannot be written"):
        ledger.append(tmp_path / "taken" / "ledger.jsonl", entry())


# -- the alias follows the traffic -------------------------------------------------------------------------------------


def test_the_alias_follows_the_traffic_and_back(client: Any) -> None:
    one, two = version(client), version(client)
    assert registry.champion(NAME) is None
    assert registry.settle(NAME, one, False, "router", "the first").changed
    assert registry.settle(NAME, two, False, "router", "took over").previous == one
    assert not registry.settle(NAME, two, False, "router", "took over").changed
    assert registry.settle(NAME, one, True, "router", "was slow").champion == one
    assert registry.champion(NAME) == one and aliases(client)[PREVIOUS] == two
    assert lines() == [
        ("promote", None, one, "the first"),
        ("promote", one, two, "took over"),
        ("rollback", two, one, "was slow"),
    ]


def test_a_version_without_a_pass_does_not_become_champion_by_traffic(client: Any) -> None:
    failed = version(client, TAGS | {registry.VERDICT: "fail"})
    with pytest.raises(PromotionRefusedError, match="its verdict is fail"):
        registry.settle(NAME, failed, False, "router", "why")
    assert CHAMPION not in aliases(client)


def test_an_alias_that_was_moved_without_its_line_gets_the_line_later(client: Any) -> None:
    one, two = version(client), version(client)
    registry.settle(NAME, one, False, "router", "the first")
    client.set_registered_model_alias(NAME, PREVIOUS, one)
    client.set_registered_model_alias(NAME, CHAMPION, two)  # and then the process was killed
    assert not registry.settle(NAME, two, False, "router", "took over").changed
    assert lines()[-1] == ("promote", one, two, "took over")
