"""dvc.lock is read and written by libyaml as DVC's own parser and emitter would."""

from __future__ import annotations

import io
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from dvc.dvcfile import FileIsGitIgnored
from dvc.repo import Repo
from dvc.utils import serialize, strictyaml
from dvc.utils.serialize import _yaml
from hypothesis import example, given
from hypothesis import strategies as st

from flows.dvc import lock_file
from tests import ROOT

NAMES = st.text("abcdefghijklmnopqrstuvwxyz._-@/0123456789", min_size=1, max_size=40)
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)
VALUES = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats(allow_nan=False) | WORDS
TREES = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))
AWKWARD = [
    "yes",
    "on",
    "null",
    "~",
    "",
    "1:30",
    "0o17",
    "1e-5",
    "a: b #c",
    "'",
    '"',
    "- x",
    " x ",
    "=",
    "<<",
    "2026-11-25",
]


def ours(data: Any) -> str:
    stream = io.StringIO()
    lock_file.dump(data, stream)
    return stream.getvalue()


def theirs(data: Any) -> str:
    stream = io.StringIO()
    _yaml._get_yaml().dump(data, stream)
    return stream.getvalue()


@given(st.dictionaries(NAMES, TREES, min_size=1, max_size=4))
@example({word or "empty": word for word in AWKWARD})
@example({"words": "word " * 40, "path": "artifacts/" + "x" * 200, "float": 1e-07, "big": 1e22, "whole": 2.0})
def test_what_is_written_says_the_same_and_reads_the_same(data: dict[str, Any]) -> None:
    text = ours(data)
    assert lock_file.parse(text, "dvc.lock") == data
    assert serialize.loads_yaml(text) == data
    assert lock_file.parse(theirs(data), "dvc.lock") == data


def test_a_lock_file_of_this_pipeline_is_written_byte_for_byte_as_dvc_writes_it() -> None:
    text = Path(__file__).with_name("lock_of_a_run.yaml").read_text()
    data = lock_file.parse(text, "dvc.lock")
    assert {stage.partition("@")[0] for stage in data["stages"]} == {"code", "fetch", "data", "convert", "track"}
    assert ours(data) == theirs(data) == text


def test_the_projects_own_lock_file_is_in_no_commit_and_not_ignored() -> None:
    """It tells of one machine's results; and DVC refuses to work with one that git ignores."""

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=ROOT, text=True, capture_output=True)

    assert git("ls-files", "dvc.lock").stdout == ""
    assert git("check-ignore", "--quiet", "dvc.lock").returncode == 1


def test_dvc_refuses_a_lock_file_that_git_ignores(tmp_path: Path) -> None:
    """Why dvc.lock stands in no .gitignore; once DVC takes it, it may."""
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: echo a}}\n")
    (tmp_path / ".gitignore").write_text("/dvc.lock\n")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    with Repo.init(str(tmp_path)) as repo, pytest.raises(FileIsGitIgnored):
        repo.reproduce()


def test_ordered_mappings_and_shared_values_are_written_out() -> None:
    shared = {"a": 1}
    assert ours(OrderedDict(x=shared, y=shared)) == "x:\n  a: 1\ny:\n  a: 1\n"


def test_only_the_lock_file_is_taken_from_dvc(tmp_path: Path) -> None:
    lock_file.speed_up()
    lock_file.speed_up()
    other = tmp_path / "dvc.yaml"
    other.write_text("a: 1  # why\n")
    with serialize.modify_yaml(other) as data:
        data["b"] = 2
    assert other.read_text() == "a: 1  # why\nb: 2\n"
    assert strictyaml.load(str(other))[0] == {"a": 1, "b": 2}


def test_broken_yaml_is_told_as_dvc_tells_it() -> None:
    with pytest.raises(serialize.YAMLFileCorruptedError):
        lock_file.parse("a: {", "dvc.lock")
