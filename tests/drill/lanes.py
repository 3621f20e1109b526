"""make lane LANE=NAME: what needs tools of Debian's own, with them: installs what is lacking, then tests and drills.

Elsewhere these tests are skipped with the package that they lack. As root, or by sudo where it asks for no password.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.errors import ConfigError, ResourceError
from tasks.run.stage import run_stage
from tests import ROOT
from tests.bench import harness
from tests.drill.rig import tell

TARGETS = "tests/tasks/targets"
TEST = ("-m", "pytest")


@dataclass(frozen=True)
class Lane:
    """Packages of Debian's, and Python command lines that need them."""

    packages: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    wheels: tuple[str, ...] = ()  # that no lock has: optional extras
    as_root: bool = False


LANES = {
    "fast": Lane(
        (),
        (
            (*TEST, TARGETS, "tests/tasks/test_place.py", "tests/tasks/test_bundle.py",
             "-m", "not slow and not model and not server"),
        ),
    ),
    "android": Lane(
        ("aapt", "android-framework-res", "apksigner", "zipalign", "gcc-aarch64-linux-gnu"),
        (
            ("-m", "tasks.targets.crossbuilt"),
            (*TEST, *(f"{TARGETS}/test_{name}.py" for name in ("android", "androidchecks", "android_loader", "apk"))),
        ),
    ),
    "containers": Lane(
        ("mmdebstrap", "debian-archive-keyring", "buildah", "podman", "runc"),
        (("-m", "tests.drill.containers", "--framework", "openvino", "--framework", "onnx"),),
        as_root=True,
    ),
    "firmware": Lane(
        ("swupdate", "cpio", "openssl", "rauc", "squashfs-tools", "mender-artifact"),
        ((*TEST, f"{TARGETS}/test_firmware.py", f"{TARGETS}/test_embedded.py"), ("-m", "tests.drill.firmware")),
        as_root=True,
    ),
    "cores": Lane(
        ("mmdebstrap", "debian-archive-keyring", "qemu-user-static", "g++-aarch64-linux-gnu", "cmake", "ninja-build",
         "default-jdk-headless"),
        (("-m", "flows.run", "--profile", "quick"), ("-m", "tests.drill.cores")),
    ),
    "cluster": Lane(
        ("docker-registry",),
        ((*TEST, *(f"{TARGETS}/test_{name}.py" for name in ("oci", "cluster", "kubernetes"))),),
    ),
    "triton": Lane(
        ("libpython3.11",),
        (("-m", "tasks.targets.triton.server"), (*TEST, f"{TARGETS}/test_triton.py", f"{TARGETS}/test_ovms.py")),
    ),
    "provider": Lane(
        (),
        (  # apart: the provider brings an OpenVINO of its own, which stays in a process
            (*TEST, "tests/tasks/backends/test_placing.py"),
            (*TEST, "tests/tasks/backends/test_devices.py"),
        ),
        wheels=("onnxruntime-ep-openvino",),
    ),
}  # fmt: skip


def absent(packages: Sequence[str]) -> list[str]:
    """Packages that dpkg does not have; raises ConfigError where there is no dpkg."""
    found = []
    for name in packages:
        command = ["dpkg-query", "-W", "-f", "${db:Status-Status}", name]
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise ConfigError(f"this lane installs {', '.join(packages)} by apt-get, and here is no dpkg") from None
        if said.stdout.strip() != "installed":
            found.append(name)
    return found


def privileged(command: Sequence[str]) -> list[str]:
    """A command as root."""
    return list(command) if os.geteuid() == 0 else ["sudo", "-n", "-E", *command]


def run(name: str) -> int:
    """Install and run one lane; returns the first exit code that is not 0."""
    if name not in LANES:
        raise ConfigError(f"lane {name!r} is not known; allowed: {', '.join(LANES)}")
    lane = LANES[name]
    if lacking := absent(lane.packages):
        tell(f"{name}: installing {', '.join(lacking)}")
        for words in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]):
            command = privileged([*words, *(lacking if words[1] == "install" else [])])
            if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
                raise ResourceError(f"{' '.join(command)} failed; install {', '.join(lacking)} by hand")
    if lane.wheels:
        tell(f"{name}: installing {', '.join(lane.wheels)}")
        tool = [str(ROOT / ".uv/bin/uv"), "pip", "install", "--quiet", "--python", sys.executable, *lane.wheels]
        if subprocess.run(tool, check=False).returncode:
            raise ResourceError(f"{' '.join(tool)} failed")
    for line in lane.commands:
        tell(f"{name}: python {' '.join(line)}")
        command = [sys.executable, *line]
        code = subprocess.run(privileged(command) if lane.as_root else command, cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the lane that is named."""
    parser = harness.parser("drill.lanes", __doc__)
    parser.add_argument("lane", help=", ".join(LANES))
    arguments = parser.parse_args(argv)
    return run_stage(lambda: run(arguments.lane))


if __name__ == "__main__":
    raise SystemExit(main())
