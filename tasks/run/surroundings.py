"""What a process needs of the machine around it: a home that can be written, and a way to this machine past proxies."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

HERE = ("127.0.0.1", "localhost", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def settle() -> None:
    """Make this process's surroundings fit, and those of the processes that it starts."""
    _past_proxies()
    _home()


TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"


def for_weights() -> dict[str, str]:
    """Environment of a process that loads a model: memory of the C library in huge pages, where the system gives them.

    Weights are read whole for every token, and with pages of 4 kB the processor looks up many of them. The C library
    reads this when a process starts, so that the parent has to say it (glibc 2.35 and later; ignored elsewhere).
    """
    stated = os.environ.get(TUNABLES, "")
    if HUGE_PAGES in stated:
        return {}
    return {TUNABLES: ":".join(filter(None, (stated, f"{HUGE_PAGES}=1")))}


def _past_proxies() -> None:
    """Servers on this machine are asked directly: a proxy does not know them, or knows others by these names."""
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES):
        return
    stated = ",".join(os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    known = list(dict.fromkeys(one.strip() for one in stated.split(",") if one.strip()))
    if "*" in known:  # nothing goes through one
        return
    both = ",".join([*known, *(one for one in HERE if one not in known)])
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = both  # libraries read either


def _home() -> None:
    """Give libraries that keep caches and settings at home a folder, where the user's home cannot be written.

    As in a container that runs as some user without one. It stays the same from run to run.
    """
    stated = os.environ.get("HOME", "")
    if not hasattr(os, "getuid") or (stated and Path(stated).is_dir() and os.access(stated, os.W_OK | os.X_OK)):
        return
    own = Path(tempfile.gettempdir()) / f"edgewright-home-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.is_symlink() or own.stat().st_uid != os.getuid():  # somebody else's, who could put things there
        own = Path(tempfile.mkdtemp(prefix="edgewright-home-"))
    os.environ["HOME"] = str(own)
