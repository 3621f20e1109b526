"""Putting files in place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def link_files(source: Path, out: Path) -> None:
    """Hard-link every file of `source` into `out`, copying where the file system cannot link."""
    out.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file():
            link_file(file, out / file.name)


def link_file(source: Path, out: Path) -> None:
    """Hard-link one file to the name `out`, copying where the file system cannot link."""
    try:
        os.link(source, out)
    except OSError:
        shutil.copy2(source, out)


def with_config(model: Path, settings: Mapping[str, Any], out: Path) -> Path:
    """A checkpoint of links in the new folder `out`, with another config.json; returns `out`."""
    out.mkdir(parents=True)
    for file in model.iterdir():
        if file.name != "config.json":
            (out / file.name).symlink_to(file.resolve())
    (out / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return out
