"""Container limits: what cgroups, version 1 or 2, leave this process of memory and processor time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

NO_LIMIT = 1 << 60  # version 1 writes "no limit" as a number near 2^63


@dataclass(frozen=True)
class Limits:
    """The tightest limits on the way from this process's group to the top; None where there is none."""

    memory_bytes: int | None = None
    memory_used_bytes: int | None = None  # in the group that holds the tightest limit
    cores: float | None = None


@dataclass(frozen=True)
class _Mount:
    version: int
    controllers: frozenset[str]
    top: PurePosixPath  # the group that the mount point shows
    point: PurePosixPath


def limits(root: Path = Path("/")) -> Limits:
    """Read the limits on this process; `root` is another file system's root in tests. No cgroups: no limits."""
    memory = [one for folder, version in _groups(root, "memory") for one in _memory(folder, version)]
    cores = [one for folder, version in _groups(root, "cpu") for one in _cores(folder, version)]
    tightest, used = min(memory, default=(None, None), key=lambda pair: pair[0] or NO_LIMIT)
    return Limits(tightest, used, min(cores, default=None))


def throttled_s(root: Path = Path("/")) -> float | None:
    """Seconds for which quotas have held this process's groups back so far; None where no group has a quota."""
    found = [one for folder, version in _groups(root, "cpu") if _cores(folder, version) for one in _throttled(folder)]
    return sum(found) if found else None


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Folders of this process's groups for a controller, up to the top, each with its version; none without cgroups."""
    try:
        mounts = parse_mounts((root / "proc/self/mountinfo").read_text())
        groups = parse_groups((root / "proc/self/cgroup").read_text())
    except OSError:
        return
    for mount in mounts:
        path = _group_of(mount, controller, groups)
        for folder in _folders(root, mount, path) if path is not None else ():
            yield folder, mount.version


def parse_mounts(mountinfo: str) -> list[_Mount]:
    """The cgroup file systems in /proc/self/mountinfo."""
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if len(before) < 5 or not after or after[0] not in ("cgroup", "cgroup2"):
            continue
        options = frozenset(after[2].split(",")) if len(after) > 2 else frozenset()
        version = 2 if after[0] == "cgroup2" else 1
        found.append(_Mount(version, options, PurePosixPath(before[3]), PurePosixPath(before[4])))
    return found


def parse_groups(cgroup: str) -> dict[str, PurePosixPath]:
    """The process's group per controller from /proc/self/cgroup; the key "" is version 2's one group."""
    found = {}
    for line in cgroup.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                found[controller] = PurePosixPath(parts[2])
    return found


def _group_of(mount: _Mount, controller: str, groups: dict[str, PurePosixPath]) -> PurePosixPath | None:
    if mount.version == 2:
        return groups.get("")
    return groups.get(controller) if controller in mount.controllers else None


def _folders(root: Path, mount: _Mount, group: PurePosixPath) -> list[Path]:
    """Folders of the group and of all above it, as far as the mount shows them."""
    inside = group.relative_to(mount.top) if group.is_relative_to(mount.top) else PurePosixPath()
    point = root / mount.point.relative_to("/")
    return [point / level for level in (inside, *inside.parents)]


def _memory(folder: Path, version: int) -> list[tuple[int, int | None]]:
    limit = _number(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"))
    if limit is None or limit >= NO_LIMIT:
        return []
    return [(limit, _number(folder / ("memory.current" if version == 2 else "memory.usage_in_bytes")))]


def _cores(folder: Path, version: int) -> list[float]:
    if version == 2:
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            return []
        return [int(quota) / int(period)] if quota.isdigit() and period.isdigit() and int(period) else []
    share, span = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return [share / span] if share and span and share > 0 else []


def _throttled(folder: Path) -> list[float]:
    """Seconds from cpu.stat: microseconds in version 2, nanoseconds in version 1."""
    try:
        lines = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
    except (OSError, ValueError):
        return []
    for name, unit in (("throttled_usec", 1e6), ("throttled_time", 1e9)):
        if name in lines:
            return [int(lines[name]) / unit]
    return []


def _number(file: Path) -> int | None:
    """The integer in a file; None when it is absent, "max" or unreadable."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
