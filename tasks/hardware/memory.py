"""Memory and disk: what the machine has and what a container leaves of it. Megabytes are 10^6 bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

from tasks.hardware.limits import Limits
from tasks.records.base import Reading

MB = 1_000_000


def total_mb(limits: Limits) -> Reading[int]:
    """Memory a process may use: the machine's, or the container's limit where that is lower."""
    machine = psutil.virtual_memory().total
    return Reading[int](value=min(machine, limits.memory_bytes or machine) // MB)


def free_mb(limits: Limits) -> Reading[int]:
    """Memory that can still be taken without swapping, inside the container's limit."""
    free = psutil.virtual_memory().available
    if limits.memory_bytes is not None and limits.memory_used_bytes is not None:
        free = min(free, max(0, limits.memory_bytes - limits.memory_used_bytes))
    return Reading[int](value=free // MB)


def disk_mb(folder: Path, what: str = "total") -> Reading[int]:
    """Size ("total") or room left ("free") of the file system that holds `folder`."""
    try:
        return Reading[int](value=getattr(shutil.disk_usage(folder), what) // MB)
    except OSError as error:
        return Reading[int](reason=f"the file system of {folder} does not tell its size: {error.strerror}")
