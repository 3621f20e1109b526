"""Which packages are installed, and in which version, without importing them."""

from __future__ import annotations

import importlib.metadata
import importlib.util

from tasks.records.base import Support


def installed(module: str, package: str) -> Support:
    """Tell whether a module can be imported, without importing it."""
    if importlib.util.find_spec(module) is None:
        return Support(ok=False, reason=f"{package} is not installed; `make env` installs it")
    return Support(ok=True, reason=f"{package} {versions_of(package)[package]}")


def versions_of(*packages: str) -> dict[str, str]:
    """Installed versions; a package that is absent is said so."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
