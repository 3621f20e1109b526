"""Updates of a board's model: the archive of a package, and what SWUpdate, RAUC and Mender take it in.

A package travels as one tar with fixed times and owners, so that the same package has the same hash everywhere.
SWUpdate's file is made here (a cpio archive with checksums, sw-description first), as its format is small, and signed
with the caller's key; RAUC's and Mender's are made by their own tools out of the descriptors in the bundle.
"""

from __future__ import annotations

import configparser
import io
import os
import re
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.errors import ConfigError, ResourceError
from tasks.packaging.manifest import sha256
from tasks.records.base import write_text
from tasks.records.bundles import Check

MODEL, DESCRIPTION, SIGNATURE = "model.tar", "sw-description", "sw-description.sig"
SLOTS = ("a", "b")
COPIES = {"a": "copy1", "b": "copy2"}  # SWUpdate's selection for each slot
LIMIT_S = 300  # for a tool
CHECK_S = 30  # for one that only reads what was made
TRIES = 6  # of one that leaves with 1 for no reason, about once in five
HEADER, ALIGN = "070702", 4  # of cpio with checksums
END = "TRAILER!!!"
SWITCH = """#!/bin/sh
# SWUpdate calls this before and after it fills slot {slot}: then the slot is tried, and committed if it answers.
[ "${{1:-}}" = postinst ] || exit 0
exec {slots} try {slot}
"""


@dataclass(frozen=True)
class Board:
    """Whom an update is for, and where it goes."""

    name: str  # of the hardware: edgewright-raspberry-pi
    revision: str  # of the hardware, as /etc/hwrevision has it
    version: str  # of the update, three numbers
    state: str = "/var/lib/edgewright"  # folder of both slots
    slots: str = "/usr/libexec/edgewright/edgewright-slot"


@dataclass(frozen=True)
class Model:
    """A package's archive."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Key:
    """What signs an update, and what the board knows it by: files in PEM."""

    private: Path
    certificate: Path


def archive(package: Path, out: Path) -> None:
    """Write a package as a tar: files in order of their names, owner root, time 0."""
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(package.rglob("*")):
            info = tarfile.TarInfo(path.relative_to(package).as_posix())
            if path.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            else:
                info.size, info.mode = path.stat().st_size, 0o644
                with path.open("rb") as stream:
                    tar.addfile(info, stream)


def description(board: Board, model_sha256: str, scripts: dict[str, str]) -> str:
    """SWUpdate's sw-description: one selection for each slot; `scripts` has the hash of each slot's script."""
    parts = []
    for slot in SLOTS:
        image = (
            f'filename = "{MODEL}"; type = "archive"; path = "{board.state}/{slot}"; '
            f'installed-directly = true; sha256 = "{model_sha256}";'
        )
        script = f'filename = "{script_name(slot)}"; type = "shellscript"; sha256 = "{scripts[slot]}";'
        parts.append(
            f"        {COPIES[slot]}: {{\n"
            f"            images: ( {{ {image} }} );\n"
            f"            scripts: ( {{ {script} }} );\n"
            f"        }};\n"
        )
    return (
        "software =\n{\n"
        f'    version = "{board.version}";\n'
        f'    description = "A model for one of two slots";\n'
        f"    {board.name} = {{\n"
        f'        hardware-compatibility: [ "{board.revision}" ];\n'
        f"        stable: {{\n{''.join(f'    {line}' + chr(10) for part in parts for line in part.splitlines())}"
        f"        }};\n    }};\n}}\n"
    )


def script_name(slot: str) -> str:
    """Name of the script that SWUpdate runs for a slot."""
    return f"switch-{slot}.sh"


def describe(package: Path, board: Board, out: Path) -> Model:
    """Write sw-description and its scripts into a folder; returns what the package's archive is."""
    with TemporaryDirectory() as scratch:
        archive(package, Path(scratch) / MODEL)
        model = Model(sha256(Path(scratch) / MODEL), (Path(scratch) / MODEL).stat().st_size)
    for slot in SLOTS:
        write_text(out / script_name(slot), SWITCH.format(slot=slot, slots=board.slots))
    write_text(out / DESCRIPTION, description(board, model.sha256, {s: sha256(out / script_name(s)) for s in SLOTS}))
    return model


def swu(package: Path, described: Path, key: Key, out: Path) -> None:
    """Write the update that SWUpdate installs, signed; the same key gives the same bytes.

    Raises ConfigError for a key that cannot sign, ResourceError where openssl is not installed.
    """
    with TemporaryDirectory() as scratch:
        archive(package, Path(scratch) / MODEL)
        sign(described / DESCRIPTION, key, Path(scratch) / SIGNATURE)
        files = [
            described / DESCRIPTION, Path(scratch) / SIGNATURE, *(described / script_name(slot) for slot in SLOTS),
            Path(scratch) / MODEL,
        ]  # fmt: skip
        with out.open("wb") as stream:
            for number, file in enumerate(files, 1):
                _entry(stream, file.name, file, number)
            _entry(stream, END, None, 0)


def _entry(stream: io.BufferedIOBase, name: str, file: Path | None, number: int) -> None:
    """One entry of a cpio archive in the `crc` format: 13 fields of 8 hexadecimal digits, name, content."""
    size = file.stat().st_size if file else 0
    total = _sum(file) if file else 0
    mode, links = (0o100644, 1) if file else (0, 1)
    fields = (number, mode, 0, 0, links, 0, size, 0, 0, 0, 0, len(name) + 1, total)
    head = HEADER + "".join(f"{one:08x}" for one in fields) + name + "\0"
    stream.write(head.encode() + bytes(-len(head) % ALIGN))
    if file:
        with file.open("rb") as source:
            shutil.copyfileobj(source, stream, 2**20)
        stream.write(bytes(-size % ALIGN))


def _sum(file: Path) -> int:
    """All bytes added, in 32 bits: cpio's checksum."""
    import numpy as np

    total = 0
    with file.open("rb") as stream:
        while block := stream.read(2**22):
            total += int(np.frombuffer(block, dtype=np.uint8).sum(dtype=np.uint64))
    return total & 0xFFFFFFFF


def sign(file: Path, key: Key, out: Path) -> None:
    """Sign a file as SWUpdate verifies it (CMS, detached), without the time, which would make each one differ.

    Raises ConfigError for a key or certificate that cannot be used, ResourceError where openssl is not installed.
    """
    if shutil.which("openssl") is None:
        raise ResourceError("openssl signs updates and is not installed (Debian: openssl)")
    found = subprocess.run(
        [
            "openssl", "cms", "-sign", "-in", str(file), "-out", str(out), "-signer", str(key.certificate),
            "-inkey", str(key.private), "-outform", "DER", "-nosmimecap", "-noattr", "-binary",
        ],
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    if found.returncode:
        said = (found.stderr.strip().splitlines() or ["no reason given"])[0]
        raise ConfigError(f"{key.private.name} and {key.certificate.name} cannot sign an update: {said}")


def passing_key(folder: Path) -> Key:
    """A key that is made for one check and thrown away; raises ResourceError where openssl is not installed."""
    if shutil.which("openssl") is None:
        raise ResourceError("openssl makes keys and is not installed (Debian: openssl)")
    key = Key(folder / "key.pem", folder / "cert.pem")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=edgewright check",
            "-addext", "keyUsage=digitalSignature", "-addext", "extendedKeyUsage=emailProtection",
            "-keyout", str(key.private), "-out", str(key.certificate),
        ],
        capture_output=True, timeout=LIMIT_S, check=True,
    )  # fmt: skip
    return key


# -- what the tools say ------------------------------------------------------------------------------------------------


def board_of(update: Path) -> Board:
    """Whom a bundle's descriptor is for; raises ValueError where it does not say."""
    text = (update / DESCRIPTION).read_text(encoding="utf-8")
    version = re.search(r'^    version = "([^"]+)";$', text, re.M)
    name = re.search(r"^    (\S+) = \{$", text, re.M)
    revision = re.search(r'hardware-compatibility: \[ "([^"]+)" \];', text)
    if not (version and name and revision):
        raise ValueError(f"{DESCRIPTION} does not say version, hardware and revision")
    return Board(name[1], revision[1], version[1])


def descriptor_fault(update: Path, package: Path) -> str:
    """What is wrong with the descriptors beside what they describe; empty where nothing is."""
    board = board_of(update)
    with TemporaryDirectory() as scratch:
        archive(package, Path(scratch) / MODEL)
        digest, size = sha256(Path(scratch) / MODEL), (Path(scratch) / MODEL).stat().st_size
    text = (update / DESCRIPTION).read_text(encoding="utf-8")
    if text.count(f'sha256 = "{digest}"') != len(SLOTS):
        return f"{DESCRIPTION} does not have the hash of this package for both slots"
    for slot in SLOTS:
        if text.count(f'sha256 = "{sha256(update / script_name(slot))}"') != 1:
            return f"{DESCRIPTION} does not have the hash of {script_name(slot)}"
    manifest = configparser.ConfigParser()
    manifest.read_string((update / "rauc" / "manifest.raucm").read_text(encoding="utf-8"))
    image, about = manifest["image.model"], manifest["update"]
    if (image["filename"], image["sha256"], image["size"]) != (MODEL, digest, str(size)):
        return "manifest.raucm describes another archive than this package's"
    if (about["compatible"], about["version"]) != (board.name, board.version):
        return f"manifest.raucm is for {about['compatible']} {about['version']}, sw-description for {board.name}"
    return ""


def swupdate_check(update: Path, package: Path) -> Check:
    """Whether SWUpdate takes the update for both slots: the signed one, or the descriptor with a key of the moment."""
    name = "swupdate -c"
    if (absent := _absent(name, "swupdate", "openssl")) is not None:
        return absent
    board, made, certificate = board_of(update), update / "edgewright.swu", update / "cert.pem"
    with TemporaryDirectory() as scratch:
        by = "the key that was given"
        if not made.is_file():
            key, made, by = passing_key(Path(scratch)), Path(scratch) / "check.swu", "a key made for this check"
            certificate = key.certificate
            swu(package, update, key, made)
        for slot in SLOTS:
            fault = _asked_again(
                [
                    "swupdate", "-c", "-H", f"{board.name}:{board.revision}", "-k", str(certificate), "-B", "none",
                    "-e", f"stable,{COPIES[slot]}", "-i", str(made),
                ],
                Path(scratch),
            )  # fmt: skip
            if fault:
                return Check(name=name, state="failed", reason=f"slot {slot}: {fault}")
    return Check(name=name, state="ok", reason=f"both slots; signed with {by}")


def rauc_check(update: Path, package: Path) -> Check:
    """Whether RAUC makes its bundle of the manifest and reads it again; signed with a key made for this check."""
    name = "rauc bundle, rauc info"
    if (absent := _absent(name, "rauc", "mksquashfs", "openssl")) is not None:
        return absent
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "in").mkdir()
        key = passing_key(place)
        archive(package, place / "in" / MODEL)
        shutil.copy2(update / "rauc" / "manifest.raucm", place / "in" / "manifest.raucm")
        signed = [f"--cert={key.certificate}", f"--key={key.private}"]
        made = str(place / "out.raucb")
        fault = _said(["rauc", *signed, "bundle", str(place / "in"), made], place)
        fault = fault or _said(["rauc", "info", f"--keyring={key.certificate}", made], place)
    return Check(name=name, state="failed" if fault else "ok", reason=fault or "made, signed and read again")


def mender_check(update: Path, package: Path) -> Check:
    """Whether mender-artifact makes an artifact of the descriptor and accepts it."""
    name = "mender-artifact write, validate"
    if (absent := _absent(name, "mender-artifact")) is not None:
        return absent
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        archive(package, place / MODEL)
        made = str(place / "model.mender")
        fault = _said(["sh", str(update / "mender" / "make-artifact.sh"), str(place / MODEL), made], place)
        fault = fault or _said(["mender-artifact", "validate", made], place)
    return Check(name=name, state="failed" if fault else "ok", reason=fault or "made and valid")


def _absent(name: str, *tools: str) -> Check | None:
    gone = [tool for tool in tools if shutil.which(tool) is None]
    packages = {"mksquashfs": "squashfs-tools"}
    reason = f"{gone[0]} is not installed (Debian: {packages.get(gone[0], gone[0])})" if gone else ""
    return Check(name=name, state="not-measured", reason=reason) if gone else None


def _asked_again(command: Sequence[str], scratch: Path) -> str:
    """What SWUpdate complains of; asked again where it leaves with 1 and names no error.

    It does so where it was done with a small update before it began to wait for the end of it (2022.12).
    """
    for _ in range(TRIES):
        fault = _said(command, scratch)
        if not fault or "ERROR" in fault:
            break
    return fault


def _said(command: Sequence[str], scratch: Path) -> str:
    """What a tool complains of, also where it hangs after that, as SWUpdate may; empty where it leaves with 0."""
    with (scratch / "said.txt").open("w+b") as out:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(scratch), "HOME": str(scratch)},
        )  # fmt: skip
        try:
            ended: int | None = process.wait(CHECK_S)
        except subprocess.TimeoutExpired:
            ended = None
        finally:
            with suppress(ProcessLookupError):  # what it started hangs on otherwise
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0)
        said = out.read().decode(errors="replace")
    if ended == 0:
        return ""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line or "rror" in line] or lines
    without = f"exit code {ended}" if ended is not None else f"it did not end within {CHECK_S} s"
    return errors[0][:300] if errors else without
