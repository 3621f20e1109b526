"""What belongs beside a model of named arrays: nothing, unless its kind says otherwise."""

from __future__ import annotations

from pathlib import Path


def companions(model: Path, out: Path) -> None:
    """Copy nothing."""


def converses(model: Path) -> bool:
    """Tell that it does not."""
    return False
