"""The settings of a run with what its kind of model says in its folder: data, gates and variants of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.kinds.table import FIRST, defaults_file, recognised
from tasks.params import settings
from tasks.params.settings import Composed, KindDefaults


def compose(changes: Mapping[str, Any], folder: Path = Path()) -> Composed:
    """Put the files of a checkout, the kind's own and `changes` together; raises ConfigError for a bad key or value."""
    return settings.compose(changes, folder, _of_kind)


def composed_before(folder: Path = Path()) -> Composed | None:
    """The files as they are now with what the last run was told; None when there was no run."""
    return settings.composed_before(folder, _of_kind)


def _of_kind(model: str, kind: str) -> KindDefaults:
    name = recognised(model) if kind == "auto" else kind
    return KindDefaults(name, None if name == FIRST else defaults_file(name))
