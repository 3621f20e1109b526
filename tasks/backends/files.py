"""Putting files in place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def link_files(source: Path, out: Path) -> None:
    """Hard-link every file of `source` into `out`, copying where the file system cannot link."""
    out.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if not file.is_file():
            continue
        try:
            os.link(file, out / file.name)
        except OSError:
            shutil.copy2(file, out / file.name)
