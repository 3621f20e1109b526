"""How a package is run by its own runtime, in lines that work from inside the package's folder."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.backends.base import Family
from tasks.backends.table import backend
from tasks.run.surroundings import HUGE_PAGES, TUNABLES

MEASURED_WITH = f"{TUNABLES}={HUGE_PAGES}=1"  # in the environment


def pin(package: str, version: str) -> str:
    """The requirement for one package: its public version when it is known.

    >>> pin("torch", "2.13.0+cpu"), pin("mlx", "not installed")
    ('torch==2.13.0', 'mlx')
    """
    return f"{package}=={version.split('+')[0]}" if version[:1].isdigit() else package


def lines(name: str, chat: bool, settings: Mapping[str, str], family: Family = "tokens") -> tuple[str, ...]:
    """Python statements of the backend called `name` that run a package with the settings it was measured with."""
    return backend(name).how_to_run(settings, chat, family)


def packages(name: str, family: Family = "tokens") -> tuple[str, ...]:
    """List the packages to install to run (not to make) an artifact, by name in the package registry."""
    return backend(name).INSTALL[family]


def needed_files(name: str, family: Family = "tokens") -> tuple[str, ...]:
    """Files of an artifact without which the lines would not run."""
    return backend(name).NEEDS[family]
