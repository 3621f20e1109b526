"""A board in a folder: two slots, the real slot script, a server whose socket is held, updates signed for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import yaml

from tasks.errors import ResourceError
from tasks.packaging.manifest import CONTENTS, Contents, sha256, write_manifest
from tasks.serve.address import Address
from tasks.serve.listening import bound, handed
from tasks.targets import bundled, embedded
from tasks.targets.embedded import firmware, units
from tests import ROOT
from tests.drill.rig import package

NEEDS = ("swupdate", "openssl", "gcc", "flock")
WEIGHTS = 24_000_000  # bytes of a model, so that a copy can be cut off
START_S, HEALTHY_S = 120, 1  # a loaded machine may take long to start a server
LIMIT_S = 600.0


@dataclass
class Board:
    """A board in a folder: slots, their script, a server whose socket is held, and updates that are signed for it."""

    folder: Path
    asked: int = 0
    refused: int = 0
    why: str = ""  # the board was not found good when it was last looked at
    _ending: bool = False
    _server: int | None = None
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make everything; nothing runs yet."""
        self.state, self.keys = self.folder / "state", self.folder / "keys"
        self.script = self.folder / "edgewright-slot"
        for one in (self.state / "a", self.state / "b", self.keys, self.folder / "updates", self.folder / "log"):
            one.mkdir(parents=True)
        plain = bundled.TEMPLATES / "embedded" / "plain"
        shutil.copy2(plain / "root/usr/libexec/edgewright/edgewright-slot", self.script)
        self.script.chmod(0o755)
        self.key = firmware.passing_key(self.keys)
        self.ask = self.folder / "edgewright-ask"
        subprocess.run(
            ["gcc", *embedded.FLAGS, "-o", str(self.ask), str(plain / "sample/ask.c")], check=True, timeout=60
        )
        self.held = bound("127.0.0.1", 0)
        self.port = self.held.getsockname()[1]
        self.address = self.folder / "log" / "address.json"
        self.conf = self.folder / "slots.conf"
        self.conf.write_text(
            f"STATE={self.state}\nADDRESS={self.address}\nLOCK={self.folder}/lock\nRESTART='sh {self.folder}/restart'\n"
            f"PROBE='{self.ask} 127.0.0.1 {self.port} 10'\nSTART_S={START_S}\nHEALTHY_S={HEALTHY_S}\n"
            f"BOARD=drill:1.0\nCERTIFICATE={self.key.certificate}\n"
        )
        pid = self.folder / "server.pid"
        (self.folder / "restart").write_text(  # stops what runs, and waits for its end, as systemctl does
            f'old=$(cat {pid})\nkill -TERM "$old" 2>/dev/null || exit 0\n'
            'while kill -0 "$old" 2>/dev/null; do sleep 0.1; done\n'
        )
        self.environment = {
            **os.environ, "EDGEWRIGHT_CONF": str(self.conf), "PYTHONPATH": str(ROOT), "TMPDIR": str(self.folder),
        }  # fmt: skip
        params = yaml.safe_load(embedded.params(self.port, units.Health(30.0, 5.0)))
        params["serve"]["drain_s"] = 1.0
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))

    # -- packages and updates ------------------------------------------------------------------------------------------

    def package(self, number: int, healthy: bool = True) -> Path:
        """A package of that number; one that is not healthy has a byte that its manifest does not know."""
        folder = self.folder / f"package-{number}"
        package(folder, number % 10)
        (folder / "model").mkdir()
        (folder / "model" / "model.gguf").write_bytes(bytes([number % 256]) * WEIGHTS)
        contents = Contents.read(folder / CONTENTS)
        contents.model_copy(update={"results_digest": f"{number:012d}" * 4}).write(folder / CONTENTS)
        (folder / "MANIFEST.json").unlink()
        write_manifest(folder)
        if not healthy:
            (folder / "model" / "model.gguf").write_bytes(bytes([number % 256]) * (WEIGHTS - 1) + b"\xff")
        return folder

    def update(self, number: int, healthy: bool = True, key: firmware.Key | None = None, board: str = "drill") -> Path:
        """A signed update with that package."""
        made, described = self.folder / "updates" / f"{number}-{board}.swu", self.folder / f"described-{number}-{board}"
        folder = self.package(number, healthy)
        described.mkdir()
        about = firmware.Board(board, "1.0", "1.0.0", str(self.state), f"env EDGEWRIGHT_CONF={self.conf} {self.script}")
        firmware.describe(folder, about, described)
        firmware.swu(folder, described, key or self.key, made)
        return made

    # -- the server, and who asks it -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Fill slot a as a factory does, and serve it."""
        shutil.copytree(self.package(1), self.state / "a", dirs_exist_ok=True)
        for link in ("current", "committed"):
            (self.state / link).symlink_to("a")
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._serve, self._ask)]
        for one in self._threads:
            one.start()

    def _serve(self) -> None:
        """What systemd does: recover, start, and again when it ended."""
        served = str(self.state / "current")
        command = [
            sys.executable, "-m", "tests.drill.echo_server", "--package", served, "--name", "drill",
            "--log", str(self.address.parent),
        ]  # fmt: skip
        # os.fork beside other threads is safe here: the child execs at once.
        while not self._ending:
            subprocess.run([str(self.script), "recover"], env=self.environment, timeout=60, check=False)
            began = time.monotonic()
            line = ["/bin/sh", "-c", 'cd "$0" && exec "$@" >>log/server.log 2>&1', str(self.folder), *command]
            self._server = handed(self.held, ["/usr/bin/env", f"PYTHONPATH={ROOT}", *line])
            (self.folder / "server.pid").write_text(str(self._server))
            os.waitpid(self._server, 0)
            time.sleep(max(0.0, 0.5 - (time.monotonic() - began)))

    def _ask(self) -> None:
        """A caller that asks all the time: a connection that is refused is counted."""
        while not self._ending:
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/v2/health/live", timeout=60)
            except httpx.ConnectError:
                self.refused += 1
            except httpx.HTTPError:  # cut off in the server that ended
                pass
            self.asked += 1
            time.sleep(0.1)

    def power_cut(self) -> None:
        """End the server as hard as can be; it comes up again."""
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._server, signal.SIGKILL)

    def end(self) -> None:
        """Stop everything."""
        self._ending = True
        self.power_cut()
        for one in self._threads:
            one.join(30)
        self.held.close()

    # -- what is asked of it -------------------------------------------------------------------------------------------

    def link(self, name: str) -> str:
        """Where one of the links leads: a or b."""
        return str((self.state / name).readlink())

    def serves(self, slot: str) -> bool:
        """Whether the server has the package of that slot, by its manifest."""
        return sha256(self.state / slot / "MANIFEST.json") == Address.read(self.address).manifest_sha256

    def good(self) -> bool:
        """Whether within the time to start the committed slot is whole, served, and answers."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(Exception):  # not yet
                slot = self.link("committed")
                whole = bundled.manifest_check(self.state / slot).state == "ok"
                answered = subprocess.run(
                    [str(self.ask), "127.0.0.1", str(self.port), "5"], capture_output=True, timeout=30
                )
                served, current = self.serves(slot), self.link("current")
                self.why = (
                    f"slot {slot}: whole {whole}, answers {answered.returncode == 0}, served {served}, {current=}"
                )
                if whole and answered.returncode == 0 and served and current == slot:
                    return True
            time.sleep(0.2)
        return False

    def install(self, update: Path, *before: str, path: Path | None = None, **told: str) -> int:
        """Install an update by the slot script; its exit code."""
        environment = self.environment | told
        if path is not None:
            environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
        with (self.folder / "install.log").open("ab") as log:
            return subprocess.run(
                [*before, str(self.script), "update", str(update)],
                env=environment, stdout=log, stderr=log, timeout=LIMIT_S, check=False,
            ).returncode  # fmt: skip


@contextlib.contextmanager
def board(folder: Path) -> Iterator[Board]:
    """A board that serves slot a; raises ResourceError where a tool is not installed."""
    gone = [tool for tool in NEEDS if shutil.which(tool) is None]
    if gone:
        raise ResourceError(f"{', '.join(gone)} not installed: apt-get install swupdate openssl gcc util-linux")
    made = Board(folder)
    try:
        made.start()
        if not made.good():
            raise RuntimeError(f"the first slot does not answer: {(folder / 'log/server.log').read_text()[-2000:]}")
        yield made
    finally:
        made.end()
