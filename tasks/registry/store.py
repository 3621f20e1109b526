"""Where MLflow keeps what it knows: the address, a client for it, one writer at a time, failures in words."""

from __future__ import annotations

import getpass
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from tasks.errors import RegistryError
from tasks.records.lines import OWN
from tasks.registry import moved
from tasks.run import workspace

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
SQLITE = "sqlite:///"
LOCK = OWN / "registry.lock"
PATIENCE_S = 600  # how long one process waits for another that changes the store
SETTINGS = {  # for whatever the user has not set
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the database in mlruns/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def database(uri: str) -> Path | None:
    """The file behind an SQLite address; None for a server."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def artifacts() -> Path | None:
    """The folder beside the database in which runs keep their files; None where a server decides."""
    file = database(tracking_uri())
    return (file.parent / moved.ARTIFACTS).resolve() if file else None


def shown(uri: str) -> str:
    """The address without user name and password, fit for logs and records.

    >>> shown("https://ann:secret@mlflow.example:5000/x")
    'https://mlflow.example:5000/x'
    """
    return _without_login(uri, uri)


def _without_login(text: str, uri: str) -> str:
    login, at, _ = urlsplit(uri).netloc.rpartition("@")
    return text.replace(login + at, "") if at else text


def actor() -> str:
    """Name who acts: $EDGEWRIGHT_ACTOR, or the user's name."""
    try:
        return os.environ.get("EDGEWRIGHT_ACTOR") or getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"


@contextmanager
def reaching(repeat: str) -> Iterator[Any]:
    """An MlflowClient for the configured store; a failure becomes a RegistryError that names the command `repeat`.

    Only one process of this machine changes the store at a time.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    uri = tracking_uri()
    file = database(uri)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        mlflow.set_tracking_uri(uri)
        with FileLock(LOCK, timeout=PATIENCE_S):
            if file is not None:
                moved.bring_home(file)
            yield mlflow.MlflowClient()
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        said = _without_login(str(error).strip() or type(error).__name__, uri).splitlines()[0]
        raise RegistryError(
            f"MLflow at {shown(uri)} did not do its part: {said[:300]}. The results are kept in {workspace.ROOT}/. "
            f"Start that server, or set MLFLOW_TRACKING_URI to another or to nothing, and repeat with `{repeat}`"
        ) from error
