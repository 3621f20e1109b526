"""The files of a checkout as DVC shall see them: some read as another file, and none is written for that.

DVC reads the variants of its `foreach` out of params.yaml when it opens the pipeline. A run that was told other
settings, or only asks what it would do, shows it the effective parameters there instead.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvc.fs import LocalFileSystem
from dvc_objects.fs.local import FsspecLocalFileSystem


class _Overlaid(FsspecLocalFileSystem):  # type: ignore[misc]
    """The disk, but for some files that are read elsewhere."""

    def __init__(self, instead: Mapping[Path, Path]) -> None:
        super().__init__(skip_instance_cache=True)
        self._instead = {str(path): other for path, other in instead.items()}

    def open(self, path: Any, mode: str = "r", encoding: str | None = None, **kwargs: Any) -> Any:
        reads = set(mode) <= set("rbt")
        return super().open(self._place(path) if reads else path, mode, encoding, **kwargs)

    def exists(self, path: Any, **kwargs: Any) -> bool:
        return bool(super().exists(self._place(path), **kwargs))

    def isfile(self, path: Any) -> bool:
        return bool(super().isfile(self._place(path)))

    def info(self, path: Any, **kwargs: Any) -> Any:
        return {**super().info(self._place(path), **kwargs), "name": str(path)}

    def _place(self, path: Any) -> str:
        other = self._instead.get(os.path.abspath(path))  # noqa: PTH100 - links stay as they are
        return str(other) if other is not None and other.exists() else str(path)


def overlay(instead: Mapping[Path, Path]) -> Any:
    """A file system for DVC; a file that is to be read instead of another is so only while it exists.

    The outer type stays DVC's own, as DVC links files only between file systems of one type.
    """
    return LocalFileSystem(fs=_Overlaid(instead))
