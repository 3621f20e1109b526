"""Images built and started on this machine: buildah with bases of Debian's own packages, Podman with runc. For root.

Nothing is taken from a registry of images: bases are made by mmdebstrap. Wheels are fetched once by pip's own settings,
and a build sees only their folder: it needs no network. All is kept in one folder of the user's cache, and in a store
of its own, so that other images of this machine are left alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import ResourceError, UnsupportedError
from tasks.targets.container import pins

TOOLS = ("buildah", "podman", "runc")
SLIM = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
SUITE = "bookworm"  # whose Python is that of the images
INSTALLER = ("python3", "python3-venv", "ca-certificates")
BASES: Mapping[str, tuple[str, tuple[str, ...]]] = {  # build argument -> mmdebstrap's variant, and what it includes
    "BASE": ("minbase", INSTALLER),
    "COMPILER": ("minbase", (*INSTALLER, "g++")),
    "RUNTIME": ("essential", ("python3", "libstdc++6", "libgomp1")),  # no apt, no pip, no compiler
}
BASE_S, FETCH_S, BUILD_S, SHORT_S = 900, 900, 1800, 120
AT = 1700000000  # the time that layers carry, so that one context makes the same layers twice
LIMIT = "4096:4096"  # of open files, and of processes: no more than mlx-lm leaves a process that imports it
# How a container is held: no rights, a root that it cannot write, limits that need none to be set.
HELD = (
    "--runtime", "runc", "--no-healthcheck", "--pull", "never", "--read-only", "--cap-drop", "ALL",
    "--security-opt", "no-new-privileges", "--ulimit", f"nofile={LIMIT}", "--ulimit", f"nproc={LIMIT}",
)  # fmt: skip
TAIL = 1500
TRIES = 5


def lacking() -> str:
    """Why no image can be built and started here; empty where it can."""
    absent = [name for name in TOOLS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed here"
    return "" if os.geteuid() == 0 else "images are built and started here as root only, for user and read-only root"


def home() -> Path:
    """Folder of the user's cache that all of it is kept in."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgewright" / "images"


@dataclass(frozen=True)
class Container:
    """A started container and its address on this machine."""

    images: Images
    name: str
    base: str

    def ask(self, path: str, body: Mapping[str, Any] | None = None, timeout: float = SHORT_S) -> tuple[int, Any]:
        """Status and JSON of one request; 0 where nobody answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - this machine's own address
            f"{self.base}{path}", data=data, headers={"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
                raw = response.read()
                return int(response.status), json.loads(raw) if raw else None
        except urllib.error.HTTPError as error:
            return error.code, None
        except (OSError, ValueError):
            return 0, None

    def until_ready(self, seconds: float) -> float:
        """Wait until a real answer of the model says that it is ready; returns the seconds it took.

        Raises UnsupportedError with what it printed where it ends before, or is not ready in time.
        """
        began = time.monotonic()
        while self.ask("/v2/health/ready", timeout=5)[0] != 200:
            late = time.monotonic() - began > seconds
            if late or not self.running:
                ended = f"is not ready after {seconds:g} s" if late else f"ended with {self.exit_code()}"
                raise UnsupportedError(f"the container {ended}: {self.printed()}")
            time.sleep(0.05)
        return time.monotonic() - began

    @property
    def running(self) -> bool:
        """Whether it is there."""
        return self.images.podman("inspect", "--format", "{{.State.Running}}", self.name).strip() == "true"

    def exit_code(self, seconds: float = SHORT_S) -> int:
        """Wait for its end; its exit code."""
        return int(self.images.podman("wait", self.name, timeout=seconds).strip())

    def stop(self) -> None:
        """Tell its first process to stop, and do not wait."""
        self.images.podman("kill", "--signal", "SIGTERM", self.name)

    def run(self, *words: str) -> str:
        """What a command inside of it prints; raises UnsupportedError where it fails."""
        return self.images.podman("exec", self.name, *words)

    def printed(self) -> str:
        """The end of what it printed."""
        done = self.images.call("podman", "logs", self.name)
        return f"{done.stdout}{done.stderr}"[-TAIL:].strip()


@dataclass(frozen=True)
class Images:
    """Images and wheels that are kept in one folder."""

    folder: Path
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)

    @property
    def wheels(self) -> Path:
        """Folder of wheels and source archives."""
        return self.folder / "wheels"

    @property
    def ready(self) -> bool:
        """Whether all bases are there, so that a build takes no more than what is to be built."""
        return all(self.has(base_name(one)) for one in BASES)

    def call(self, tool: str, *words: str, timeout: float = SHORT_S) -> subprocess.CompletedProcess[str]:
        """Run buildah or podman on the store of this folder; raises ResourceError where that takes too long."""
        places = ("--root", str(self.folder / "store"), "--runroot", str(self.folder / "run"))
        return _run([tool, *places, *words], timeout)

    def buildah(self, *words: str, timeout: float = SHORT_S) -> str:
        """What buildah prints; raises UnsupportedError with its reason."""
        return _well("buildah", words, self.call("buildah", *words, timeout=timeout))

    def podman(self, *words: str, timeout: float = SHORT_S) -> str:
        """What podman prints; raises UnsupportedError with its reason."""
        return _well("podman", words, self.call("podman", *words, timeout=timeout))

    def has(self, image: str) -> bool:
        """Whether an image is in the store."""
        return self.call("buildah", "inspect", "--type", "image", image).returncode == 0

    def prepare(self) -> None:
        """Make the bases that are not there; raises ResourceError where Debian's packages cannot be fetched."""
        for one in BASES:
            if not self.has(base_name(one)):
                self._base(one)

    def _base(self, one: str) -> None:
        if shutil.which("mmdebstrap") is None:
            raise ResourceError("mmdebstrap is not installed here; it makes the bases of images from Debian's packages")
        variant, included = BASES[one]
        self.tell(f"{one}: making a base of Debian {SUITE} with {', '.join(included)} ...")
        self.folder.mkdir(parents=True, exist_ok=True)
        tar = self.folder / f"{one.lower()}.tar"
        words = ["mmdebstrap", f"--variant={variant}", f"--include={','.join(included)}", *SLIM, SUITE, str(tar)]
        done = _run(words, BASE_S)
        if done.returncode:
            raise ResourceError(f"mmdebstrap could not make {one}: {done.stderr[-TAIL:].strip()}")
        self.take(one, tar)
        tar.unlink()

    def take(self, one: str, tar: Path) -> None:
        """Put a base into the store out of an archive of its files."""
        made = self.buildah("from", "scratch").strip()
        try:
            self.buildah("add", "--quiet", made, str(tar), "/", timeout=BASE_S)
            self.buildah("commit", "--quiet", made, base_name(one), timeout=BASE_S)
        finally:
            self.buildah("rm", made)

    def fetch(self, found: Mapping[str, Sequence[pins.Pin]]) -> Path:
        """Fetch by pip what is not there of these pins; raises ResourceError where they cannot be fetched."""
        self.wheels.mkdir(parents=True, exist_ok=True)
        missing = pins.missing([one for pinned in found.values() for one in pinned], self.wheels)
        if missing:
            self.tell(f"wheels: fetching {len(missing)} files ...")
        for one in missing:
            form = ("--no-binary", one.name) if one.name == pins.COMPILED else ("--only-binary", ":all:")
            words = [
                "download",
                "--quiet",
                "--no-deps",
                *form,
                "--dest",
                str(self.wheels),
                f"{one.name}=={one.version}",
            ]
            done = _run([sys.executable, "-m", "pip", *words], FETCH_S)
            if done.returncode:
                raise ResourceError(f"pip could not fetch {one.name}=={one.version}: {done.stderr[-300:].strip()}")
        return self.wheels

    def build(self, context: Path, framework: str, tag: str, seconds: float = BUILD_S) -> float:
        """Build one framework's image of a context out of the wheels that are kept; returns the seconds it took.

        Raises ConfigError for a framework without a stage, UnsupportedError with the end of what the build printed,
        ResourceError where it takes longer than `seconds`.
        """
        pins.known(framework)
        self.tell(f"{tag}: building ...")
        settings = self.folder / "pip.conf"
        settings.write_text("[global]\nno-index = true\nfind-links = /wheels\n", encoding="utf-8")
        bases = [word for one in BASES for word in ("--build-arg", f"{one}={base_name(one)}")]
        began = time.monotonic()
        self.buildah(
            "build", "--layers", "--force-rm", "--format", "docker", "--isolation", "chroot", "--network", "host",
            "--pull=false", "--timestamp", str(AT), *bases, "--build-arg", f"FRAMEWORK={framework}",
            "--secret", f"id=pip,src={settings}", "--volume", f"{self.wheels}:/wheels:ro",
            "--target", "production", "--tag", tag, str(context), timeout=seconds,
        )  # fmt: skip
        took = time.monotonic() - began
        self.tell(f"{tag}: built in {took:.0f} s")
        return took

    def size_mb(self, image: str) -> float:
        """What an image takes on the disk, all layers and the base among them, 10^6 bytes."""
        return int(self.podman("image", "inspect", "--format", "{{.Size}}", image).strip()) / 1e6

    def config(self, image: str) -> dict[str, Any]:
        """An image's settings: User, ExposedPorts, Labels, StopSignal, Healthcheck."""
        found = json.loads(self.buildah("inspect", "--type", "image", image))
        return dict(found["Docker"]["config"])

    @contextmanager
    def started(self, image: str, name: str = "", package: Path | None = None) -> Iterator[Container]:
        """Start an image as its own user with a read-only root and no rights; it is removed in the end.

        `package` is a folder to serve in place of the package that is inside. Without `name` it is started as it is:
        by its own command, at its own port, in a network that nobody else is in.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        own = f"edgewright-{os.getpid()}-{port}"
        mounts = ("--volume", f"{package.resolve()}:/package:ro") if package else ()
        command = ("--package", "/package", "--name", name, "--host", "127.0.0.1", "--port", str(port), "--log", "/log")
        try:
            self.podman(
                "run", "--detach", "--name", own, *HELD, "--network", "host" if name else "none", *mounts, image,
                *(command if name else ()),
            )  # fmt: skip
            yield Container(self, own, f"http://127.0.0.1:{port}")
        finally:
            self._remove(own)

    def said(self, image: str, script: str) -> str:
        """What a Python script prints inside of an image, run as its user and with the rights of its server."""
        words = ("run", "--rm", *HELD, "--network", "none", "--entrypoint", "python3", image, "-c", script)
        return self.podman(*words)

    def _remove(self, container: str) -> None:
        """Remove a container; one that is just ending is asked again, as Podman refuses in that moment."""
        for _ in range(TRIES):
            if self.call("podman", "rm", "--force", "--time", "1", "--volumes", container).returncode == 0:
                return
            time.sleep(1)
        self.tell(f"{container} could not be removed; `podman rm --force {container}` does it later")


def base_name(one: str) -> str:
    """The name of a base in the store; another suite or list of packages is another base."""
    return f"localhost/edgewright-{one.lower()}:{SUITE}"


def _run(words: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a command; where it takes too long, it and all that it started are killed, and ResourceError is raised."""
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise ResourceError(f"{words[0]} took more than {seconds:g} s and was stopped") from None
    return subprocess.CompletedProcess(words, process.returncode, out, errors)


def _well(tool: str, words: Sequence[str], done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        said = f"{done.stderr}\n{done.stdout}"[-TAIL:].strip()
        raise UnsupportedError(f"{tool} {words[0]} ended with {done.returncode}: {said}")
    return done.stdout
