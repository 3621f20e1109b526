"""A store that was moved or copied: MLflow notes places in full, so each is set to the store's own folder again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tasks.errors import RegistryError

ARTIFACTS = "artifacts"  # the folder beside the database
PLACES = (  # table, key and column of each place that MLflow notes (3.8 to 3.17)
    ("experiments", "experiment_id", "artifact_location"),
    ("runs", "run_uuid", "artifact_uri"),
    ("logged_models", "model_id", "artifact_location"),
    ("model_versions", "rowid", "storage_location"),
    ("model_versions", "rowid", "source"),
)
EXPERIMENTS = PLACES[0]


def bring_home(database: Path) -> int:
    """Let a database name its own folder; returns how many places were changed.

    A place stays as it is only where its files are still there and did not come along. An experiment is set right in
    any case, so that nothing new is written into the folder that was left behind. Raises RegistryError when the
    database is not laid out as those of the MLflow versions that are known here.
    """
    own = (database.parent / ARTIFACTS).resolve()
    if not database.is_file():
        return 0
    with closing(sqlite3.connect(database, timeout=60)) as store, store:
        if not list(_foreign(store, EXPERIMENTS, own)):
            return 0
        try:
            changes = [(place, key, new) for place in PLACES for key, new in _foreign(store, place, own)]
        except sqlite3.OperationalError as error:
            raise RegistryError(
                f"{database} was moved, and this MLflow keeps places in another way than known here ({error}); "
                "move the checkout back, or set MLFLOW_TRACKING_URI to another store"
            ) from error
        for (table, key, column), row, new in changes:
            store.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (new.as_uri(), row))  # noqa: S608
    return len(changes)


def _foreign(store: sqlite3.Connection, place: tuple[str, str, str], own: Path) -> Iterator[tuple[object, Path]]:
    """Keys of rows that name another checkout's folder, with the place in ours."""
    table, key, column = place
    if place == EXPERIMENTS and not store.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
        return  # MLflow has not been here yet
    for row, location in store.execute(f"SELECT {key}, {column} FROM {table}").fetchall():  # noqa: S608
        old = _path(str(location or ""))
        new = _ours(old, own) if old else None
        if old and new and (place == EXPERIMENTS or new.exists() or not old.exists()):
            yield row, new


def _path(location: str) -> Path | None:
    """The path behind a place on this machine; None for any other."""
    parts = urlsplit(location)
    path = Path(unquote(parts.path))
    return path if parts.scheme in ("file", "") and path.is_absolute() else None


def _ours(path: Path, own: Path) -> Path | None:
    """Where the same file is in our folder; None for one that is there already, or is no such folder's."""
    if path.is_relative_to(own):
        return None
    tail = (own.parent.name, ARTIFACTS)
    for length in range(len(path.parts), 1, -1):  # the last such folder: a checkout may lie within another
        if path.parts[length - 2 : length] == tail:
            return own.joinpath(*path.parts[length:])
    return None
