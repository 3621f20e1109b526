"""The registry's command line."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.records.terms import Outcome
from tasks.records.verdict import GateReport
from tasks.registry.__main__ import main
from tasks.registry.tags import RESULTS
from tasks.run.workspace import Workspace
from tests.finished import finished
from tests.tasks.registry.shelf import NAME, TAGS, version


def test_the_commands(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    finished()
    model = ["--model", NAME]
    digest = GateReport.read(Workspace().verdicts).results_digest
    for _ in range(2):
        version(client, TAGS | {RESULTS: digest})
        assert main(["promote", *model, "--why", "better"]) == 0
    assert main(["rollback", *model]) == 0
    assert main(["show", *model]) == 0
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
    assert main(["promote", "--model", NAME]) == code
    assert f"error: tiny version 1 stays what it is: the verdict is {outcome}" in capsys.readouterr().err


def test_the_commands_take_the_models_name_from_the_parameters(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    finished()
    assert main(["rollback"]) == 2
    assert "the registry has no model 'edgewright-sample'" in capsys.readouterr().err
