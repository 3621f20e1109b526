"""Package folders that may be served."""

from __future__ import annotations

from pathlib import Path

from tasks.errors import ModelError
from tasks.packaging.manifest import CONTENTS, Contents, verify_manifest
from tasks.promotion.rollout import Slot


def packaged(folder: Path) -> Slot:
    """A package folder whose own record says that it passed; raises ModelError for any other."""
    if not (folder / CONTENTS).is_file():
        raise ModelError(f"{folder} is no package: it holds no {CONTENTS}; `make run` makes artifacts/package")
    digest, contents = verify_manifest(folder), Contents.read(folder / CONTENTS)
    if contents.verdict != "pass":
        raise ModelError(f"{folder} is not served: its verdict is {contents.verdict}")
    return Slot(version=contents.results_digest[:12], package=str(folder.resolve()), manifest_sha256=digest)
