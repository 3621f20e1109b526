"""Boards: a model in two slots, its server as a hardened unit, and updates that are committed only once they answered.

Layout: `root/` lies on the board as it is; `update/` holds what SWUpdate, RAUC and Mender take the same package in;
`sample/`, `yocto/`, `buildroot/` are sources. Options (`targets.NAME.options`): `port`; `board` and `revision`, the
hardware that an update is for (empty: edgewright-DEVICE); `version` of the update; `healthy_s`, for how long a new
model has to answer; `sign_key` and `sign_cert`, PEM files that sign the update (without, it is described and not made).
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from tasks.errors import ConfigError
from tasks.hardware.host import host
from tasks.hardware.profiles import named
from tasks.params.pipeline import HOST
from tasks.params.serving import Serve
from tasks.records.base import Support, write_text
from tasks.records.bundles import Check, Compared, Component, Part
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.run.disk import size_bytes
from tasks.targets import answers, bundled
from tasks.targets.base import Defaults, Shipped
from tasks.targets.embedded import firmware, units
from tasks.targets.served import Served

DEFAULTS = Defaults(device="raspberry-pi")
OPTIONS: dict[str, Any] = {
    "port": 8080, "board": "", "revision": "1.0", "version": "1.0.0", "healthy_s": 10, "sign_key": "", "sign_cert": "",
}  # fmt: skip
STATE = "/var/lib/edgewright"
SLOT = f"root{STATE}/a"
SCRIPTS = (f"root{units.SLOTS}", "update/mender/edgewright-model", "update/mender/make-artifact.sh")
ASK = "sample/ask.c"
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
VERSION = re.compile(r"\d+(\.\d+){1,3}")
SLOTS_AT_ONCE = 2  # requests that a board answers together
LOADS_S = 60.0  # a board may take to load a package, for each time that its limits are a desktop's
LIMIT_S = 120  # for a compiler or a shell


@dataclass(frozen=True)
class Embedded:
    """One board."""

    name: str
    device: str

    def accepts(self, model: ModelProfile, recipe: Recipe) -> Support:
        """Whether the server can open the artifact, and answer in text: by that an update is committed."""
        if model.family != "tokens":
            return Support(ok=False, reason=f"an update is committed by an answer in text, not in {model.family}")
        return Served(self.name, self.device).accepts(model, recipe)

    def build(self, shipped: Shipped, out: Path) -> tuple[Part, ...]:
        """Write the bundle; raises ConfigError for options that are not known, or a key that cannot sign."""
        told = _told(self.name, shipped.options)
        board = _board(self.device, told)
        shutil.copytree(shipped.package, out / SLOT)
        shutil.copytree(bundled.TEMPLATES / "embedded" / "plain", out, dirs_exist_ok=True)
        model = firmware.describe(out / SLOT, board, out / "update")
        health = units.health_of(self._hardware())
        words = _words(shipped, told, board, health, model) | {"DEVICE": self.device}
        bundled.from_templates("embedded/filled", out, words)
        limit = units.memory_mb(size_bytes(shipped.model), self._hardware().memory_mb.value)
        backend = shipped.contents.backend
        for name, text in units.written(shipped.name, backend, told["port"], limit, Serve().drain_s).items():
            write_text(out / "root" / units.UNITS / name, text)
        write_text(out / "root/etc/edgewright/params.yaml", params(told["port"], health))
        if told["sign_key"]:
            key = firmware.Key(Path(told["sign_key"]), Path(told["sign_cert"]))
            firmware.swu(out / SLOT, out / "update", key, out / "update" / "edgewright.swu")
            for place in ("update", "root/etc/edgewright"):
                shutil.copyfile(key.certificate, out / place / "cert.pem")
        for script in (*SCRIPTS, *(f"update/{firmware.script_name(slot)}" for slot in firmware.SLOTS)):
            (out / script).chmod(0o755)
        bundled.sign_off(shipped, self.name, out)
        return ledger(out)

    def validate(self, bundle: Path) -> tuple[Check, ...]:
        """Units, scripts, the C sample, and the descriptors by the tools that would install them."""
        root, update, package = bundle / "root", bundle / "update", bundle / SLOT
        return (
            units.verified(root),
            units.exposed(root),
            bundled.check("sh -n", lambda: _scripts_fault(bundle)),
            _compiled(bundle / ASK),
            bundled.check("descriptors against the package", lambda: firmware.descriptor_fault(update, package)),
            firmware.swupdate_check(update, package),
            firmware.rauc_check(update, package),
            firmware.mender_check(update, package),
            bundled.manifest_check(package).model_copy(update={"name": "manifest of the slot"}),
            bundled.manifest_check(bundle),
            Check(
                name="bitbake, Buildroot", state="not-measured", reason="neither is here: their sources are not built"
            ),
            Check(name="the unit, started", state="not-measured", reason="systemd is not this machine's first process"),
        )

    def compare(self, shipped: Shipped, bundle: Path) -> Compared:
        """Logits of the slot's model by its own runtime on this machine, beside the package's."""
        backend = shipped.contents.backend
        return answers.logits(
            f"{backend} on this processor (not the board's)", shipped, bundle / SLOT / "model", backend
        )

    def _hardware(self) -> Hardware:
        return host() if self.device == HOST else named(self.device)


def target(name: str, device: str) -> Embedded:
    """The target called `name`."""
    return Embedded(name, device)


def ledger(bundle: Path) -> tuple[Part, ...]:
    """Sizes by component; a model is fetched once and, after the first update, kept twice."""
    slot = bundle / SLOT
    tokenizer = size_bytes(slot / "tokenizer")
    weights = size_bytes(slot / "model")
    about = size_bytes(slot) - weights - tokenizer
    board = size_bytes(bundle / "root") - size_bytes(slot)
    told: tuple[tuple[Component, str, int, int], ...] = (
        ("weights", "model/, in slots a and b", weights, 2),
        ("tokenizer", "tokenizer/, in slots a and b", tokenizer, 2),
        ("metadata", "manifest, card, settings, in slots a and b", about, 2),
        ("code", "units and scripts; the server and its runtime come with the image", board, 1),
    )
    return tuple(Part(component=c, name=n, download_bytes=s, installed_bytes=s * times) for c, n, s, times in told)


def _told(name: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    told = bundled.options(name, wanted, OPTIONS)
    where = f"targets.{name}.options"
    for option, form, allowed in (
        ("board", NAME, "letters, digits, '.', '_' and '-'"),
        ("revision", NAME, "letters, digits, '.', '_' and '-'"),
        ("version", VERSION, "two to four numbers with dots between them, such as 1.0.0"),
    ):
        if told[option] and not form.fullmatch(told[option]):
            raise ConfigError(f"{where}.{option}: {told[option]!r} is none; allowed: {allowed}")
    if not 0 < told["port"] < 65536 or told["healthy_s"] < 1:
        raise ConfigError(
            f"{where}: port is 1 to 65535 and healthy_s at least 1, not {told['port']}, {told['healthy_s']}"
        )
    if bool(told["sign_key"]) != bool(told["sign_cert"]):
        raise ConfigError(f"{where}: sign_key and sign_cert go together; give both, or none")
    for option in ("sign_key", "sign_cert"):
        if told[option] and not Path(told[option]).is_file():
            raise ConfigError(f"{where}.{option}: there is no file {told[option]}")
    return told


def _board(device: str, told: Mapping[str, Any]) -> firmware.Board:
    return firmware.Board(
        told["board"] or f"edgewright-{device}", told["revision"], told["version"], STATE, units.SLOTS
    )


def _words(
    shipped: Shipped, told: Mapping[str, Any], board: firmware.Board, health: units.Health, model: firmware.Model
) -> dict[str, str]:
    just_in_time = shipped.contents.backend in units.JUST_IN_TIME
    note = (
        f"{shipped.contents.backend} writes machine code while it runs: its unit lets memory become executable"
        if just_in_time
        else "The unit lets no memory become executable"
    )
    return {
        "NAME": shipped.name,
        "VARIANT": shipped.contents.variant,
        "STATE": board.state,
        "BOARD": board.name,
        "REVISION": board.revision,
        "VERSION": board.version,
        "PORT": str(told["port"]),
        "HEALTHY_S": str(told["healthy_s"]),
        "PROBE_S": str(math.ceil(health.hang_s)),
        "START_S": str(math.ceil(LOADS_S * health.hang_s / units.HANG_S)),
        "HANG_S": f"{health.hang_s:g}",
        "MODEL_SHA256": model.sha256,
        "MODEL_BYTES": str(model.size_bytes),
        "MEMORY_NOTE": note,
    }


def params(port: int, health: units.Health) -> str:
    """What the server on the board reads: limits that follow the board, as params.yaml."""
    serve = {"port": port, "slots": SLOTS_AT_ONCE, "hang_s": health.hang_s, "probe_s": health.probe_s}
    # The file is refused without a reference, although a server makes no variants.
    unused = {"reference": {"backend": "torch", "precision": "fp32", "role": "reference"}}
    return yaml.safe_dump({"serve": serve, "variants": unused}, sort_keys=False)


def _scripts_fault(bundle: Path) -> str:
    """What the shell says of each script that it only reads."""
    for file in (*SCRIPTS, *(f"update/{firmware.script_name(slot)}" for slot in firmware.SLOTS)):
        if not (bundle / file).stat().st_mode & 0o111:
            return f"{file} cannot be executed"
        found = subprocess.run(
            ["sh", "-n", str(bundle / file)], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        if found.returncode or found.stderr:
            return f"{file}: {found.stderr.strip()}"
    return ""


def _compiled(source: Path) -> Check:
    """Whether the sample compiles without a warning; it is linked, too."""
    name = "cc -Wall -Wextra -Werror"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return Check(name=name, state="not-measured", reason="there is no C compiler here (Debian: gcc)")
    with TemporaryDirectory() as scratch:
        command = [compiler, *FLAGS, "-O2", "-o", f"{scratch}/ask", str(source)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    fault = next((line for line in found.stderr.splitlines() if "error" in line), "") or found.stderr.strip()
    return Check(name=name, state="failed" if found.returncode else "ok", reason=fault or "no warning")
