"""Whether the disk has room, asked before work starts instead of found out in the middle."""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks.errors import ResourceError

HEADROOM = 1.2  # a little more than the estimate


def size_bytes(folder: Path) -> int:
    """Bytes of all files under a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def fresh_folder(out: Path) -> Path:
    """An empty folder beside `out`, to be filled and then put in its place by `replace_folder`."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def replace_folder(partial: Path, out: Path) -> None:
    """Put a finished folder in the place of `out`."""
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)


def require_disk(near: Path, needed: int, why: str = "") -> None:
    """Raise ResourceError unless the disk that holds `near` has `needed` bytes and some headroom; `why` so many."""
    free = shutil.disk_usage(near.parent if not near.exists() else near).free
    if free < needed * HEADROOM:
        raise ResourceError(
            f"{why}needs about {needed * HEADROOM / 1e9:.1f} GB on the disk of {near.parent}, {free / 1e9:.1f} GB are "
            "free; free some room (`dvc gc --workspace` drops old artifacts) and run again"
        )
