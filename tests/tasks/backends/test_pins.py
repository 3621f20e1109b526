"""tasks/backends/pins.py: the pins a backend's artifacts depend on, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.backends.pins import pins
from tasks.backends.table import MODULES, backend
from tasks.errors import ConfigError
from tests import ROOT

LOCK = ROOT / "requirements.lock"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_package_a_backend_tells_of_is_pinned_with_what_computes_beside_it(name: str) -> None:
    found = pins(backend(name).versions(), LOCK)
    told = {package for package in backend(name).versions() if package in LOCK.read_text()}
    assert told and told <= set(found)
    assert "numpy" in found
    assert not {"ruff", "pytest", "mypy", "prefect", "mlflow", "dvc"} & set(found)


def test_pins_are_lines_of_the_lock_and_names_are_compared_as_pip_does(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("# head\nPyYAML==6.0.3 ; python_version > '3'\nother==1\n")
    assert pins(["pyyaml"], lock) == {"pyyaml": "PyYAML==6.0.3 ; python_version > '3'"}
    assert pins(["not-installed-anywhere", "other"], lock) == {"other": "other==1"}


def test_extras_bring_what_they_require(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("llama-cpp-python==1\nstarlette-context==2\nnumpy==3\n")
    assert set(pins(["llama-cpp-python"], lock)) == {"llama-cpp-python", "numpy"}
    assert "starlette-context" in pins(["llama-cpp-python[server]"], lock)


def test_no_lock_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make lock"):
        pins(["numpy"], tmp_path / "none")
