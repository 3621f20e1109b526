"""Private names of other packages that this project uses: they are there, and their packages are pinned exactly."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import re
import tomllib

import pytest

from tests import ROOT

# module, name in it, and the file here that uses it
USED = [
    ("dvc.utils.serialize._yaml", "parse_yaml", "flows/dvc/lock_file.py"),
    ("dvc.utils.serialize._yaml", "parse_yaml_for_update", "flows/dvc/lock_file.py"),
    ("dvc.utils.serialize._yaml", "_dump", "flows/dvc/lock_file.py"),
    ("dvc_objects.fs.local", "FsspecLocalFileSystem", "flows/dvc/overlay.py"),
    ("evidently.legacy.calculations.stattests", "jensenshannon_stat_test", "monitoring/judge/drift.py"),
    ("evidently.legacy.calculations.stattests", "chi_stat_test", "monitoring/judge/drift.py"),
    ("evidently.legacy.calculations.stattests", "wasserstein_stat_test", "monitoring/judge/drift.py"),
    ("evidently.legacy.calculations.stattests", "ks_stat_test", "monitoring/judge/drift.py"),
    ("evidently.legacy.core", "ColumnType", "monitoring/judge/drift.py"),
]
PINNED = ("dvc", "dvc-objects", "evidently", "codecarbon", "llama-cpp-python")


@pytest.mark.parametrize(("module", "name", "file"), USED)
def test_a_private_name_is_there_and_used_where_it_says(module: str, name: str, file: str) -> None:
    assert hasattr(importlib.import_module(module), name)
    text = (ROOT / file).read_text()
    assert name in text and module.split(".")[0] in text


def test_the_tracker_of_energy_says_what_it_counts() -> None:
    """No public name tells whether a counter was read or a figure estimated: `get_detected_hardware` names models."""
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(country_iso_code="USA", save_to_file=False, log_level="error")
    tracker._ensure_hardware_ready()
    assert tracker._hardware and any(hasattr(one, "_mode") for one in tracker._hardware)


def test_llama_cpp_keeps_a_batch_of_its_own() -> None:
    """`tasks/backends/gguf/tokens.py` fills it; whatever else it asks of a context is public."""
    import llama_cpp

    text = (ROOT / "tasks/backends/gguf/tokens.py").read_text()
    assert set(re.findall(r"_llama\.(_\w+)", text)) == {"_batch"}
    assert "self._batch" in (importlib.resources.files(llama_cpp) / "llama.py").read_text()


@pytest.mark.parametrize("package", PINNED)
def test_their_packages_are_pinned_exactly_as_in_the_lock_file_and_installed(package: str) -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (pin,) = [one for one in asked if re.match(rf"{package}\b(?!-)", one)]
    assert re.fullmatch(rf"{package}==[\w.]+", pin)
    assert pin in (ROOT / "requirements.lock").read_text().splitlines()
    assert importlib.metadata.version(package) == pin.partition("==")[2]
