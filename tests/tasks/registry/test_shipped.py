"""What goes with a logged model: enough to import every module of it alone, and no stage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.backends.table import MODULES
from tasks.packaging.closure import source_of
from tasks.registry.shipped import copy_sources, sources
from tests import ROOT
from tests.factories import contents

IMPORT = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; print(sys.modules['tasks'])"


@pytest.mark.parametrize("backend", MODULES)
def test_only_what_the_model_imports_is_shipped(backend: str) -> None:
    found = {file.as_posix() for _, file in sources(contents(backend))}
    own = source_of(ROOT, MODULES[backend]).as_posix()
    assert {"tasks/registry/pyfunc.py", "tasks/packaging/manifest.py", "tasks/__init__.py", own} <= found
    others = {source_of(ROOT, module).as_posix() for module in MODULES.values()} - {own}
    assert not others & found
    assert not any(
        file.startswith(("tasks/promotion", "tasks/serve", "tasks/reporting", "tasks/planning")) for file in found
    )
    assert "tasks/kinds/causal_lm/predicting.py" in found
    assert not {"tasks/kinds/causal_lm/scoring.py", "tasks/kinds/causal_lm/checkpoint.py"} & found


def test_every_shipped_module_imports_without_the_checkout(tmp_path: Path) -> None:
    [top] = copy_sources(contents("torch"), tmp_path / "code")
    files = sorted(file.relative_to(top.parent) for file in top.rglob("*.py"))
    names = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, *names], cwd=top.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert str(top) in done.stdout


def test_a_kind_and_a_backend_outside_of_the_product_go_along(tmp_path: Path) -> None:
    outside = contents("tests.tasks.toy_backend", kind="tests.tasks.toy_kind", family="arrays")
    tops = copy_sources(outside, tmp_path / "code")
    assert [top.name for top in tops] == ["tasks", "tests"]
    shipped = {file.relative_to(tmp_path / "code").as_posix() for file in tops[1].rglob("*.py")}
    assert {"tests/tasks/toy_backend.py", "tests/tasks/toy_kind.py", "tests/__init__.py"} <= shipped
    assert len(shipped) == 4
