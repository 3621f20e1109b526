"""systemd's units for a board: a socket that outlives the server, a service that may do little, and limits that fit.

Every sandbox option that the server can live with is on; what is off is off for a reason that was found by trying:
OpenVINO writes kernels while it runs, so that it cannot load where memory may not become executable.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.records.bundles import Check
from tasks.records.hardware import Hardware

UNITS = "usr/lib/systemd/system"
SERVICE, SOCKET = "edgewright.service", "edgewright.socket"
PYTHON = "/opt/edgewright/venv/bin/python"
SLOTS = "/usr/libexec/edgewright/edgewright-slot"
USER = "edgewright"
JUST_IN_TIME = ("openvino",)  # runtimes that write machine code while they run
EXPOSURE = 1.2  # of ten, where systemd-analyze counts what a service may still do; at most
LIMIT_S = 60  # for a tool
MB = 10**6
OVERHEAD_MB, WORKING_SHARE = 700, 2.5  # of the interpreter and its libraries; weights, their repacked copy, the cache
MEMORY_SHARE = 0.8  # of the device's, at most
HANG_S, PROBE_S = 20.0, 5.0  # on a processor that serves as a desktop's does
LONGEST_HANG_S, LONGEST_PROBE_S = 600.0, 120.0
CORES = 4  # that such a processor has at least
# How much slower a processor without these instructions is at int8 and int4 kernels, generously: a limit that is too
# long finds a hang late, one that is too short restarts a healthy server for ever.
SLOWER = (("asimdhp", 2.0), ("asimddp", 2.0), ("avx2", 4.0))

HARDENED: dict[str, str] = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateUsers": "yes",
    "PrivateIPC": "yes",
    "PrivateMounts": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectProc": "invisible",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "RemoveIPC": "yes",
    "LockPersonality": "yes",
    "KeyringMode": "private",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "SystemCallErrorNumber": "EPERM",
    "IPAddressDeny": "any",
    "IPAddressAllow": "localhost",
    "UMask": "0077",
}


@dataclass(frozen=True)
class Health:
    """How long a server on one device may be silent, in seconds."""

    hang_s: float  # for one token, before its process is started again
    probe_s: float  # between two questions of its own, each answered within the limit above


def health(cores: int | None, isa: Sequence[str] | None, architecture: str | None) -> Health:
    """Limits that follow the device: never below what a desktop has, longer for fewer cores and older instructions.

    >>> health(4, ("asimd", "asimdhp", "asimddp"), "arm64")
    Health(hang_s=20.0, probe_s=5.0)
    >>> health(4, ("asimd",), "arm64"), health(2, ("avx2",), "x86_64")
    (Health(hang_s=80.0, probe_s=20.0), Health(hang_s=40.0, probe_s=10.0))
    """
    wanted = [(one, factor) for one, factor in SLOWER if one.startswith("asimd") == (architecture == "arm64")]
    slower = max(1.0, CORES / (cores or 1))
    for one, factor in wanted:
        slower *= factor if isa is None or one not in isa else 1.0
    return Health(min(LONGEST_HANG_S, HANG_S * slower), min(LONGEST_PROBE_S, PROBE_S * slower))


def health_of(device: Hardware) -> Health:
    """The limits of a device; what its profile does not give counts as the slowest."""
    return health(device.usable_cores.value, device.isa.value, device.architecture.value)


def memory_mb(weights_bytes: int, device_mb: int | None) -> int:
    """A limit that the server keeps unless it leaks: a multiple of the weights, at most most of what the device has.

    >>> memory_mb(100 * 10**6, 8000), memory_mb(10**10, 4000), memory_mb(0, None)
    (950, 3200, 700)
    """
    wanted = OVERHEAD_MB + WORKING_SHARE * weights_bytes / MB
    return round(min(wanted, MEMORY_SHARE * device_mb) if device_mb else wanted)


def written(name: str, backend: str, port: int, limit_mb: int, drain_s: float) -> dict[str, str]:
    """Both units, by file name.

    There is no watchdog: the server sends none of its signs of life. Its own probe asks the model for an answer and
    starts it again; systemd starts what ends, or is killed.
    """
    service = {
        "Type": "exec",
        "User": USER,
        "Environment": "PYTHONPATH=/opt/edgewright PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1",
        "WorkingDirectory": "/etc/edgewright",
        "ExecStartPre": f"+{SLOTS} recover",
        "ExecStart": f"{PYTHON} -m tasks.serve --package /var/lib/edgewright/current --name {name} "
        "--log /var/log/edgewright",
        "LogsDirectory": "edgewright",
        "Restart": "always",
        "RestartSec": "2",
        "TimeoutStopSec": f"{round(drain_s) + 10}",
        "MemoryMax": f"{limit_mb}M",
        "OOMPolicy": "stop",
        "TasksMax": "256",
        "LimitNOFILE": "8192",
        **HARDENED,
        "MemoryDenyWriteExecute": "no" if backend in JUST_IN_TIME else "yes",
    }
    start = {
        "Description": f"Model server of {name}",
        "Requires": SOCKET,
        "After": f"{SOCKET} local-fs.target",
        "StartLimitIntervalSec": "600",
        "StartLimitBurst": "8",
    }
    socket = {"ListenStream": f"127.0.0.1:{port}", "Backlog": "2048", "NoDelay": "yes"}
    about = {"Description": f"Where the model server of {name} listens, whether it runs or not"}
    return {
        SERVICE: _text({"Unit": start, "Service": service, "Install": {"WantedBy": "multi-user.target"}}),
        SOCKET: _text({"Unit": about, "Socket": socket, "Install": {"WantedBy": "sockets.target"}}),
    }


def _text(sections: Mapping[str, Mapping[str, str]]) -> str:
    parts = ["\n".join([f"[{name}]", *(f"{k}={v}" for k, v in keys.items())]) for name, keys in sections.items()]
    return "\n\n".join(parts) + "\n"


def verified(root: Path) -> Check:
    """What `systemd-analyze verify` says: each line is a failure, as it leaves with 0 after unknown keys."""
    name = "systemd-analyze verify"
    if (tool := shutil.which("systemd-analyze")) is None:
        return Check(name=name, state="not-measured", reason="systemd-analyze is not installed (Debian: systemd)")
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        shutil.copytree(root / UNITS, place, dirs_exist_ok=True)
        for file in (place / SERVICE, place / SOCKET):  # what they start is on the board, not here
            file.write_text(file.read_text().replace(PYTHON, "/bin/true").replace(SLOTS, "/bin/true"))
        found = subprocess.run(
            [tool, "verify", "--man=no", str(place / SERVICE), str(place / SOCKET)],
            capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
    lines = [line for line in (found.stdout + found.stderr).splitlines() if line.strip()]
    if lines or found.returncode:
        reason = lines[0] if lines else f"exit code {found.returncode}"
        return Check(name=name, state="failed", reason=reason.replace(f"{scratch}/", ""))
    return Check(name=name, state="ok", reason="no line of complaint")


def exposed(root: Path) -> Check:
    """What `systemd-analyze security` makes of the service, from 0 (locked in) to 10."""
    name = f"systemd-analyze security, at most {EXPOSURE}"
    if (tool := shutil.which("systemd-analyze")) is None:
        return Check(name=name, state="not-measured", reason="systemd-analyze is not installed (Debian: systemd)")
    found = subprocess.run(
        [
            tool, "security", "--offline=yes", "--no-pager", f"--threshold={round(10 * EXPOSURE)}",
            str(root / UNITS / SERVICE),
        ],
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    told = [line for line in found.stdout.splitlines() if "Overall exposure" in line]
    reason = told[0].strip("→ ").split(" ", 1)[-1] if told else (found.stderr.strip() or "it says nothing")
    return Check(name=name, state="ok" if found.returncode == 0 and told else "failed", reason=reason)
