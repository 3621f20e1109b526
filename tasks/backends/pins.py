"""Pins of a backend's packages, out of requirements.lock, with all that they need in turn."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tasks.errors import ConfigError

LOCK = Path("requirements.lock")


def pins(packages: Iterable[str], lock: Path = LOCK) -> dict[str, str]:
    """Lines of the lock file, by name, of the packages and of what they need as installed here.

    Raises ConfigError when there is no lock file.
    """
    known = _lines(lock)
    return {name: known[name] for name in sorted(_closure(packages)) if name in known}


def _lines(lock: Path) -> dict[str, str]:
    try:
        text = lock.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{lock} does not exist; `make lock` writes it") from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return {canonicalize_name(line.partition("==")[0]): line for line in lines if "==" in line}


def _closure(packages: Iterable[str]) -> set[str]:
    """Names of the packages and of everything that they require; one that is not installed requires nothing."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(package) for package in packages]
    while waiting:
        one = waiting.pop()
        known = (canonicalize_name(one.name), frozenset(one.extras))
        if known not in found:
            found.add(known)
            waiting += _required(one)
    return {name for name, _ in found}


def _required(package: Requirement) -> Iterator[Requirement]:
    try:
        lines = importlib.metadata.requires(package.name) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for one in map(Requirement, lines):
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *package.extras)):
            yield one
