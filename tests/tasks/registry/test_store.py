"""The address of the store, and a store that does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import RegistryError
from tasks.registry import store
from tasks.registry.versions import promote
from tests.tasks.registry.shelf import NAME, REPORT


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:///mlruns/mlflow.db", Path("mlruns/mlflow.db")),
        ("sqlite:////a/b.db", Path("/a/b.db")),
        ("http://x", None),
    ],
)
def test_only_sqlite_has_a_file(uri: str, file: Path | None) -> None:
    assert store.database(uri) == file


def test_an_unreachable_server_is_named_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"MLflow at http://127.0.0.1:9 did not do its part.*tasks.registry promote"
                       ) as caught:  # fmt: skip
        promote(NAME, None, REPORT, "ann", "please")
    assert "secret" not in str(caught.value)
