"""Children that fail in every way: each becomes a reason, none ends the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest

from tasks.convert import ONE_BLAS_THREAD
from tasks.errors import ChildError, UnsupportedError
from tasks.params.pipeline import Limits
from tasks.records.base import Record
from tasks.run.child import Child, _last_json, resident_mb, run_child
from tests import ROOT


class Asked(Record):
    value: Any = None


class Got(Record):
    value: Any = None


# What the children do; they import this module by name.
def echo(request: Asked) -> Got:
    print("a library that prints to standard output")
    return Got(value=request.value)


def surroundings(request: Asked) -> Got:
    return Got(value={name: os.environ.get(name) for name in request.value})


def mapping(request: dict) -> Got:
    return Got()


def hang(request: Asked) -> Got:
    time.sleep(600)


def eat_memory(request: Asked) -> Got:
    held = []
    while True:
        held.append(bytearray(20_000_000))
        time.sleep(0.01)


def refuse(request: Asked) -> Got:
    raise UnsupportedError("this architecture is not known here")


def crash(request: Asked) -> Got:
    raise RuntimeError("first line\nsecond line")


def die(request: Asked) -> Got:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(request: Asked) -> Got:
    os._exit(3)


def run(tmp_path, work, value=1, **limits):
    bounds = Limits(**{"timeout_s": 60.0, "memory_mb": 2000.0} | limits)
    return run_child(
        Child(f"tests.tasks.run.test_child:{work}", Asked(value=value), bounds, tmp_path / "log" / "child.log", work),
        Got,
    ).value


def test_threads_and_own_variables_reach_the_child(tmp_path):
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY"]
    work = Child(
        "tests.tasks.run.test_child:surroundings", Asked(value=names), Limits(timeout_s=60.0, memory_mb=2000.0),
        tmp_path / "child.log", "surroundings", threads=2, environment=ONE_BLAS_THREAD,
    )  # fmt: skip
    assert run_child(work, Got).value == {
        "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"
    }  # fmt: skip


def test_the_answer_comes_back_and_prints_go_to_the_log(tmp_path):
    assert run(tmp_path, "echo", [1, 2]) == [1, 2]
    assert "a library that prints" in (tmp_path / "log" / "child.log").read_text()


@pytest.mark.parametrize(
    ("work", "limits", "kind", "words"),
    [
        ("hang", {"timeout_s": 1.5}, "timeout", "longer than 2 s"),
        ("eat_memory", {"memory_mb": 300.0}, "memory", "over the limit of 300 MB"),
        ("refuse", {}, "unsupported", "this architecture is not known here"),
        ("crash", {}, "crash", "RuntimeError: first line"),
        ("die", {}, "killed", "SIGKILL"),
        ("leave", {}, "crash", "code 3 and no answer"),
        ("no_such_function", {}, "crash", "AttributeError"),
        ("mapping", {}, "crash", "work of a child process takes a record"),
    ],
)
def test_every_failure_has_a_kind_and_words(tmp_path, work, limits, kind, words):
    with pytest.raises(ChildError, match=words) as caught:
        run(tmp_path, work, **limits)
    assert caught.value.kind == kind


def test_a_child_ends_when_its_parent_is_killed(tmp_path):
    script = (
        "from pathlib import Path; from tasks.params.pipeline import Limits; "
        "from tasks.run.child import Child, run_child; from tests.tasks.run.test_child import Asked, Got; "
        f"log = Path({str(tmp_path / 'x.log')!r}); "
        "run_child(Child('tests.tasks.run.test_child:hang', Asked(value=1), Limits(), log, 'x'), Got)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    children = []
    deadline = time.monotonic() + 30
    while not children and time.monotonic() < deadline:
        children = psutil.Process(parent.pid).children()
        time.sleep(0.1)
    time.sleep(1.0)
    parent.kill()
    parent.wait()
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert gone
    assert not alive


def test_memory_of_a_process_that_is_gone_is_zero():
    assert resident_mb(2**22 - 1) == 0.0


@pytest.mark.parametrize(
    "after",
    ["", "rubbish\n", '{"progress": 1}\n', "{ not JSON\n[1, 2]\nnull\n", "\xff\xfe\x00\n"],
    ids=["nothing", "words", "other JSON", "broken JSON", "bytes"],
)
def test_what_a_library_prints_after_the_answer_does_no_harm(after: str) -> None:
    out = b'loading\n{"ok": true, "result": {"x": 1}}\n' + after.encode("latin-1")
    assert _last_json(out) == {"ok": True, "result": {"x": 1}}
    assert _last_json(after.encode("latin-1")) is None
