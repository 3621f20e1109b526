"""Putting files in place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


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
