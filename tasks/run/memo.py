"""What was measured before, found again under a key over all that it depends on.

A stage that measures asks here before it works. Trying another model or profile and coming back costs nothing then:
what DVC dropped from the workspace is linked back. Keys hash what DVC hashes: contents, never times of change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import DataError
from tasks.records.base import write_text
from tasks.run.disk import fresh_folder, replace_folder

KEEP = 4  # entries of one stage and name, the newest: models and profiles that are gone back and forth between
DIGEST = ".digest"  # over the entry's files, so that a damaged one is never taken for what was measured
BLOCK = 1 << 22


def key_of(words: Iterable[str], files: Iterable[Path]) -> str:
    """SHA-256 over words, and names and contents of files and folders; raises DataError for one that is not there."""
    digest = hashlib.sha256()
    for word in words:
        digest.update(f"{len(word)}:{word}".encode())
    for path in files:
        digest.update(f"{path.name}={content_of(path)};".encode())
    return digest.hexdigest()


def content_of(path: Path) -> str:
    """SHA-256 of a file, or over the relative names and contents of a folder's files, in name order."""
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file() and file != path / DIGEST)
        return key_of((f"{file.relative_to(path)}={content_of(file)}" for file in inside), ())
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; run the stage that writes it (`dvc repro`)") from None
    return digest.hexdigest()


@dataclass(frozen=True)
class Memo:
    """Folders that stages wrote, by stage, name and key."""

    root: Path

    def find(self, stage: str, name: str, key: str) -> Path | None:
        """The folder that was kept under the key, whole as it was; None when there is none."""
        folder = self._place(stage, name, key)
        noted = folder / DIGEST
        if not noted.is_file():
            return None
        if noted.read_text() != content_of(folder):
            shutil.rmtree(folder, ignore_errors=True)
            return None
        os.utime(folder)  # the newest are kept
        return folder

    def restore(self, stage: str, name: str, key: str, out: Path) -> bool:
        """Put what was kept under the key in the place of `out`; False when there is nothing."""
        folder = self.find(stage, name, key)
        if folder is None:
            return False
        partial = fresh_folder(out)
        _link(folder, partial)
        replace_folder(partial, out)
        return True

    def keep(self, stage: str, name: str, key: str, folder: Path) -> None:
        """Keep a folder under the key, and of this stage and name only the newest entries."""
        place = self._place(stage, name, key)
        partial = fresh_folder(place)
        _link(folder, partial)
        write_text(partial / DIGEST, content_of(partial))
        replace_folder(partial, place)
        entries = sorted((one for one in place.parent.iterdir() if not one.name.startswith(".")), key=_age)
        for old in entries[:-KEEP]:
            shutil.rmtree(old, ignore_errors=True)

    def _place(self, stage: str, name: str, key: str) -> Path:
        return self.root / stage / name / key[:32]


def _age(folder: Path) -> float:
    return folder.stat().st_mtime


def _link(source: Path, out: Path) -> None:
    """Hard links where the file system can, else copies: stages replace files and never write into them."""
    for file in sorted(source.rglob("*")):
        if not file.is_file() or file == source / DIGEST:
            continue
        target = out / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, target)
        except OSError:
            shutil.copy2(file, target)
