"""Kinds of targets by name. One outside of this table is named by its module: `kind: package.module` in a target."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, cast

from tasks.errors import ConfigError
from tasks.targets.base import Anywhere, Bundles, Defaults, Kind, Target

MODULES: dict[str, str] = {  # a pod runs the same server as a machine, so both take the same
    "host-server": "tasks.targets.served",
    "kubernetes": "tasks.targets.served",
    "ios": "tasks.targets.ios",
    "android": "tasks.targets.android",
    "cross-platform": "tasks.targets.cross_platform",
    "embedded": "tasks.targets.embedded",
    "triton": "tasks.targets.triton",
    "ovms": "tasks.targets.ovms",
    "container": "tasks.targets.container",
    "cluster": "tasks.targets.cluster",
}
# Kinds whose targets make something to ship.
BUNDLING = ("ios", "android", "cross-platform", "embedded", "triton", "ovms", "container", "cluster")

if TYPE_CHECKING:
    from tasks.targets import android, cluster, container, cross_platform, embedded, ios, ovms, served, triton

    _KINDS: tuple[Kind, ...] = (
        android, cluster, container, cross_platform, embedded, ios, ovms, served, triton,
    )  # fmt: skip
    _TARGETS: tuple[Target, ...] = (Anywhere("", ""), served.Served("", ""))
    _BUNDLES: tuple[Bundles, ...] = (
        android.Android("", ""), cluster.Cluster("", ""), container.Image("", ""), ios.Ios("", ""),
        cross_platform.CrossPlatform("", ""), embedded.Embedded("", ""), ovms.Ovms("", ""), triton.Triton("", ""),
    )  # fmt: skip


def defaults(kind: str) -> Defaults | None:
    """What a kind stands for where params.yaml names no target of it; None for one that makes no bundle."""
    if kind not in BUNDLING:
        return None
    found: Defaults = importlib.import_module(MODULES[kind]).DEFAULTS
    return found


def target(kind: str | None, name: str, device: str) -> Target:
    """The target called `name`, of `kind`; raises ConfigError, with the nearest name, for a kind that is not there."""
    if kind is None:
        return Anywhere(name, device)
    where = f"targets.{name}.kind: {kind!r}"
    place = MODULES.get(kind, kind if "." in kind else "")
    if not place:
        raise ConfigError(f"{where} is not known; {_hint(kind)}")
    try:
        module = importlib.import_module(place)
    except ModuleNotFoundError as error:
        if not place.startswith(error.name or "."):
            raise  # it is there, and what it imports is not
        raise ConfigError(f"{where}: there is no such module; {_hint(kind)}") from None
    if not callable(getattr(module, "target", None)):
        raise ConfigError(f"{where} is no kind of target: it lacks target(name, device); see tasks/targets/base.py")
    return cast(Kind, module).target(name, device)


def _hint(kind: str) -> str:
    close = difflib.get_close_matches(kind, MODULES, n=1, cutoff=0.4)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{meant}allowed: {', '.join(MODULES)}, or a module of yours, as in package.module"
