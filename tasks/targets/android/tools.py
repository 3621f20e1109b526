"""Android's own tools, as Debian packs them: aapt2 links a manifest, apksigner signs and verifies, zipalign looks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import ConfigError, UnsupportedError

FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
PACKAGES = {"aapt2": "aapt", "apksigner": "apksigner", "zipalign": "zipalign"}
TIMEOUT_S = 300.0
ATTRIBUTE = re.compile(r"A: (?:\S+:)?(\w+)(?:\(0x[0-9a-f]+\))?=(?:\"([^\"]*)\"|(\S+))")
SCHEMES = re.compile(r"^Verified using v([23]) scheme.*: true$", re.MULTILINE)


@dataclass(frozen=True)
class Key:
    """What to sign by."""

    keystore: Path
    alias: str
    password_env: str  # the environment variable that has the keystore's password


def missing() -> tuple[str, ...]:
    """Debian packages that are not installed."""
    gone = [package for tool, package in PACKAGES.items() if shutil.which(tool) is None]
    return tuple(gone) if FRAMEWORK.is_file() else (*gone, "android-framework-res")


def run(command: Sequence[str]) -> tuple[int, str]:
    """The exit code of a tool, and all it said."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S, check=False
    )
    return done.returncode, done.stdout


def link(manifest: Path, scratch: Path, proto: bool) -> dict[str, bytes]:
    """Compile a manifest as it goes into an APK, or into a module of an app bundle; raises UnsupportedError."""
    if gone := missing():
        raise UnsupportedError(f"an APK is made with {', '.join(gone)}: apt-get install does on Debian")
    out = scratch / "linked.apk"
    form = ["--proto-format"] if proto else []
    code, said = run(["aapt2", "link", *form, "-I", str(FRAMEWORK), "--manifest", str(manifest), "-o", str(out)])
    if code:
        raise UnsupportedError(f"aapt2 does not take the manifest: {first(said)}")
    with zipfile.ZipFile(out) as archive:
        return {name: archive.read(name) for name in sorted(archive.namelist())}


def sign(apk: Path, key: Key) -> None:
    """Sign in place, by schemes 2 and 3; raises ConfigError where the key cannot be used."""
    if not key.keystore.is_file():
        raise ConfigError(f"there is no keystore {key.keystore}; make one with keytool -genkeypair -keyalg RSA")
    if not os.environ.get(key.password_env):
        raise ConfigError(f"the environment has no {key.password_env}: set it to the keystore's password")
    out = apk.with_name(f"{apk.name}.signed")
    asked = ["--ks", str(key.keystore), "--ks-key-alias", key.alias, "--ks-pass", f"env:{key.password_env}"]
    schemes = ["--v1-signing-enabled", "false", "--v2-signing-enabled", "true", "--v3-signing-enabled", "true"]
    code, said = run(["apksigner", "sign", *asked, *schemes, "--min-sdk-version", "24", "--out", str(out), str(apk)])
    out.with_name(f"{out.name}.idsig").unlink(missing_ok=True)
    if code:
        out.unlink(missing_ok=True)
        raise ConfigError(f"apksigner does not sign with {key.keystore.name}: {first(said)}")
    out.replace(apk)
    kind = re.search(r"key algorithm: (\w+)", verified(apk)[1])
    if kind is None or kind[1] != "RSA":
        raise ConfigError(f"the key {key.alias!r} signs otherwise every time, and bundles are to be the same; take RSA")


def verified(apk: Path) -> tuple[int, str]:
    """What apksigner says of an APK."""
    return run(["apksigner", "verify", "--verbose", "--print-certs", "--min-sdk-version", "24", str(apk)])


def schemes(said: str) -> tuple[str, ...]:
    """Signature schemes that verified, of what apksigner said."""
    return tuple(f"v{number}" for number in SCHEMES.findall(said))


def attributes(file: Path, scratch: Path) -> dict[str, str]:
    """Attributes of a manifest, by their names, as aapt2 reads them back; raises ValueError where it does not.

    A module of an app bundle keeps its manifest in a folder; aapt2 reads it where an APK has it.
    """
    with zipfile.ZipFile(file) as archive:
        if "manifest/AndroidManifest.xml" in archive.namelist():
            content = archive.read("manifest/AndroidManifest.xml")
            file = scratch / "reread.apk"
            with zipfile.ZipFile(file, "w") as copy:
                copy.writestr("AndroidManifest.xml", content)
    code, said = run(["aapt2", "dump", "xmltree", "--file", "AndroidManifest.xml", str(file)])
    if code:
        raise ValueError(first(said))
    found = {}
    for line in said.splitlines():
        if element := re.match(r"\s*E: (?:\S+/)?(?:\S+:)?([\w-]+) \(line", line):
            found[f"<{element[1]}>"] = "there"
        if told := ATTRIBUTE.search(line):
            found[told[1]] = told[2] if told[2] is not None else told[3]
    return found


def first(said: str) -> str:
    """The first line that tells of an error, else the first that says something."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("WARNING")]
    return next((line for line in lines if "error" in line.lower()), lines[0] if lines else "no message")
