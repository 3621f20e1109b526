"""What benches and drills share: limits, fresh copies, the closing table and line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tasks.errors import DataError
from tests.bench import harness
from tests.bench.harness import Limit, summary, table

LIMITS = {"a": Limit(most=2), "b": Limit(least=19)}


@pytest.mark.parametrize(
    ("limit", "value", "holds"),
    [
        (Limit(most=2), 2.0, True),
        (Limit(most=2), 2.1, False),
        (Limit(least=2), 1.9, False),
        (Limit(least=2), None, False),
        (Limit(1, 2), 1.5, True),
        (Limit(), 0.0, True),
    ],
)
def test_a_limit_holds(limit: Limit, value: float | None, holds: bool) -> None:
    assert limit.holds(value) is holds


def test_the_closing_line_says_whether_every_limit_was_kept() -> None:
    limits = {"a": Limit(most=2), "b": Limit(least=19)}
    assert summary("x", {"a": 2.0, "b": 20.0}, limits)["ok"] is True
    assert summary("x", {"a": 3.0, "b": 20.0}, limits)["ok"] is False
    assert summary("x", {"a": 2.0}, limits)["ok"] is False
    assert "<= 2" in table({"a": 2.0, "b": 20.0}, limits)


@pytest.mark.parametrize(("value", "code"), [(2.0, 0), (3.0, 1), (None, 1)])
def test_a_bench_ends_with_its_table_and_one_line_of_json(
    capfd: pytest.CaptureFixture[str], value: float | None, code: int
) -> None:
    folders: list[Path] = []

    def bench(scratch: Path) -> harness.Figures:
        folders.append(scratch)
        assert not any(scratch.iterdir())
        return {"a": value, "b": 20.0}

    assert harness.main("x", bench, LIMITS) == code
    *shown, last = capfd.readouterr().out.splitlines()
    assert json.loads(last)["ok"] is (code == 0)
    assert sum(line.startswith("{") for line in shown) == 0
    assert not folders[0].exists()


def test_a_bench_that_cannot_measure_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    def bench(scratch: Path) -> harness.Figures:
        raise DataError("no model there")

    assert harness.main("x", bench, LIMITS) == 2
    shown = capfd.readouterr()
    assert "no model there" in shown.err
    assert not shown.out


def test_a_copy_has_what_git_knows_and_no_more(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    for name in (".gitignore", "kept.py", "sub/new.py", "ignored.txt", "dvc.lock"):
        (root / name).write_text("ignored.txt" if name == ".gitignore" else name)
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    subprocess.run(["git", "add", "kept.py", "dvc.lock"], cwd=root, check=True)
    out = harness.copy(tmp_path / "out", root)
    made = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file() and ".git" not in file.parts}
    assert made == {".gitignore", "kept.py", "sub/new.py"}  # what is new too, but nothing that a run made


def test_a_command_that_fails_has_no_time(tmp_path: Path) -> None:
    took = harness.timed(tmp_path, "-c", "pass")
    assert took is not None and took > 0
    assert harness.timed(tmp_path, "-c", "raise SystemExit(3)") is None
