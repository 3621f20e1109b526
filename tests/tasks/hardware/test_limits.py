"""What a container allows of memory and cores."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.hardware import cpu, memory
from tasks.hardware.limits import Limits, limits, throttled_s
from tests.tasks.hardware.test_hardware import put

NO_LIMIT_V1 = "9223372036854771712"


def write(root: Path, **files: str) -> Path:
    """Write files below `root`; double underscores in a name are slashes."""
    for name, text in files.items():
        put(root, name.replace("__", "/"), text)
    return root


V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1_MOUNTS = (
    "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "35 31 0:32 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def cgroup(tmp_path: Path, mounts: str, groups: str, **files: str) -> Limits:
    write(tmp_path, proc__self__mountinfo="22 1 0:20 / /proc rw - proc proc rw\n" + mounts, proc__self__cgroup=groups)
    for name, text in files.items():
        put(tmp_path / "sys/fs/cgroup", name.replace("__", "/").replace("DOT", "."), text)
    return limits(tmp_path)


def test_cgroup_2_takes_the_tightest_limit_up_to_the_top(tmp_path: Path) -> None:
    files = {
        "a__memoryDOTmax": "4000000000\n",
        "a__memoryDOTcurrent": "1000000000\n",
        "a__b__memoryDOTmax": "max\n",
        "a__b__cpuDOTmax": "150000 100000\n",
        "a__cpuDOTmax": "max 100000\n",
    }
    found = cgroup(tmp_path, V2_MOUNT, "0::/a/b\n", **files)
    assert found == Limits(memory_bytes=4_000_000_000, memory_used_bytes=1_000_000_000, cores=1.5)


@pytest.mark.parametrize("top", ["/", "/docker/x"])  # from the machine, and from inside a container
def test_cgroup_1(tmp_path: Path, top: str) -> None:
    inside = "docker__x__" if top == "/" else ""
    files = {
        f"memory__{inside}memoryDOTlimit_in_bytes": "2000000000",
        f"memory__{inside}memoryDOTusage_in_bytes": "500000000",
        "cpu__cpuDOTcfs_quota_us": "-1",
        "cpu__cpuDOTcfs_period_us": "100000",
    }
    found = cgroup(tmp_path, V1_MOUNTS.format(top=top), "4:memory:/docker/x\n1:cpu,cpuacct:/\n", **files)
    assert found == Limits(memory_bytes=2_000_000_000, memory_used_bytes=500_000_000, cores=None)


def test_cgroup_1_without_limits_and_a_machine_without_cgroups(tmp_path: Path) -> None:
    files = {"memory__memoryDOTlimit_in_bytes": NO_LIMIT_V1, "cpu__cpuDOTcfs_quota_us": "50000"}
    files |= {"cpu__cpuDOTcfs_period_us": "100000"}
    assert cgroup(tmp_path, V1_MOUNTS.format(top="/"), "4:memory:/\n1:cpu:/\n", **files) == Limits(cores=0.5)
    assert limits(tmp_path / "nowhere") == Limits()


def test_time_that_a_quota_took_is_read_where_there_is_one(tmp_path: Path) -> None:
    two = {"a__cpuDOTmax": "150000 100000\n", "a__cpuDOTstat": "nr_periods 9\nthrottled_usec 2500000\n"}
    cgroup(tmp_path / "2", V2_MOUNT, "0::/a\n", **two)
    assert throttled_s(tmp_path / "2") == 2.5
    cgroup(tmp_path / "free", V2_MOUNT, "0::/a\n", a__cpuDOTmax="max 100000\n", a__cpuDOTstat=two["a__cpuDOTstat"])
    assert throttled_s(tmp_path / "free") is None
    one = {"cpu__cpuDOTcfs_quota_us": "50000", "cpu__cpuDOTcfs_period_us": "100000"}
    cgroup(tmp_path / "1", V1_MOUNTS.format(top="/"), "1:cpu:/\n", **one, cpu__cpuDOTstat="throttled_time 1500000000\n")
    assert throttled_s(tmp_path / "1") == 1.5
    assert throttled_s(tmp_path / "nowhere") is None


def test_limits_bound_memory_and_cores() -> None:
    assert memory.total_mb(Limits(memory_bytes=3_000_000)).value == 3
    assert memory.free_mb(Limits(memory_bytes=3_000_000, memory_used_bytes=1_000_000)).value == 2
    assert memory.free_mb(Limits(memory_bytes=3_000_000, memory_used_bytes=9_000_000)).value == 0
    assert (memory.total_mb(Limits()).value or 0) > 100
    assert cpu.usable_cores(0.5).value == 1
    assert cpu.usable_cores(1.9).value == 1
    assert cpu.usable_cores(None).value == cpu.usable_cores(1e9).value
    assert "does not tell its size" in memory.disk_mb(Path("/nowhere/at/all")).reason
