"""The settings by which a package is opened, out of what it says of itself."""

from __future__ import annotations

from tasks.hardware import cores
from tasks.kinds.base import Packed
from tasks.packaging.manifest import Contents


def packed(contents: Contents) -> Packed:
    """Backend, settings of the runtime, and as many threads as there are cores."""
    return Packed(
        backend=contents.backend, settings=contents.settings, chat=contents.chat, threads=cores.usable_cores()
    )
