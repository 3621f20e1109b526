"""Updates of a board: the archive, the signature, SWUpdate, RAUC and Mender, and the slot script on its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tasks.packaging.manifest import sha256
from tasks.targets import bundled
from tasks.targets.embedded import firmware
from tests.drill import firmware as drill
from tests.drill.board import NEEDS, board
from tests.tasks.targets import test_embedded as boards


def needs(*tools: str) -> pytest.MarkDecorator:
    gone = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(gone), reason=f"{', '.join(gone)} not installed (apt-get install)")


SCRIPT = bundled.TEMPLATES / "embedded/plain/root/usr/libexec/edgewright/edgewright-slot"
MODULE = bundled.TEMPLATES / "embedded/plain/update/mender/edgewright-model"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> firmware.Key:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return firmware.passing_key(tmp_path_factory.mktemp("key"))


@pytest.fixture
def described(tmp_path: Path) -> tuple[Path, Path]:
    """A package, and its descriptors."""
    package, update = boards.package(tmp_path / "package"), tmp_path / "update"
    update.mkdir()
    firmware.describe(package, firmware.Board("drill", "1.0", "1.0.0"), update)
    return package, update


# -- archive, signature, and what tools say ----------------------------------------------------------------------------


def test_an_archive_is_the_same_wherever_it_is_made(tmp_path: Path) -> None:
    for number in (1, 2):
        package = boards.package(tmp_path / f"package-{number}")
        os.utime(package / "package.json", (number, number))
        firmware.archive(package, tmp_path / f"{number}.tar")
    assert sha256(tmp_path / "1.tar") == sha256(tmp_path / "2.tar")


@needs("cpio", "openssl")
def test_cpio_reads_the_update_and_finds_its_checksums_right(described, key, tmp_path: Path) -> None:
    package, update = described
    firmware.swu(package, update, key, tmp_path / "one.swu")
    firmware.swu(package, update, key, tmp_path / "two.swu")
    assert sha256(tmp_path / "one.swu") == sha256(tmp_path / "two.swu")
    out = tmp_path / "out"
    out.mkdir()
    with (tmp_path / "one.swu").open("rb") as stream:
        found = subprocess.run(["cpio", "-i"], stdin=stream, cwd=out, capture_output=True, timeout=60)
    assert found.returncode == 0 and b"checksum" not in found.stderr, found
    names = {"model.tar", "switch-a.sh", "switch-b.sh", "sw-description", "sw-description.sig"}
    assert {file.name for file in out.iterdir()} == names
    raw = bytearray((tmp_path / "one.swu").read_bytes())
    raw[len(raw) // 2] ^= 1
    found = subprocess.run(["cpio", "-i", "-u"], input=bytes(raw), cwd=out, capture_output=True, timeout=60)
    assert b"checksum" in found.stderr, "cpio sees a changed bit by our checksums"


@needs("openssl")
def test_a_key_that_cannot_sign_is_refused_in_words(described, key, tmp_path: Path) -> None:
    _, update = described
    (tmp_path / "bad.pem").write_text("no key")
    with pytest.raises(ConfigError, match=r"bad.pem and cert.pem cannot sign an update"):
        firmware.sign(update / "sw-description", firmware.Key(tmp_path / "bad.pem", key.certificate), tmp_path / "sig")


@needs("swupdate", "openssl")
@pytest.mark.parametrize(("old", "new", "words"), [
    ("stable", "unstable", "slot a: "),
    ("copy2", "copy3", "slot b: "),
    ("images: (", "images: ", "slot a: "),
])  # fmt: skip
def test_swupdate_refuses_a_broken_descriptor(described, old: str, new: str, words: str) -> None:
    package, update = described
    first = firmware.swupdate_check(update, package)
    assert first.state == "ok", first
    file = update / "sw-description"
    file.write_text(file.read_text().replace(old, new))
    found = firmware.swupdate_check(update, package)
    assert found.state == "failed" and found.reason.startswith(words), found


@needs("swupdate", "openssl")
def test_swupdate_refuses_the_signature_of_another(described, key, tmp_path: Path) -> None:
    package, update = described
    firmware.swu(package, update, key, update / "edgewright.swu")
    shutil.copy(key.certificate, update / "cert.pem")
    assert "the key that was given" in firmware.swupdate_check(update, package).reason
    shutil.copy(firmware.passing_key(tmp_path).certificate, update / "cert.pem")
    assert firmware.swupdate_check(update, package).state == "failed"


@needs("rauc", "mksquashfs", "openssl")
@pytest.mark.parametrize(
    ("old", "new"), [("", ""), ("[update]", "[updates]"), ("filename=model.tar", "filename=no.tar")]
)
def test_rauc_makes_its_bundle_or_refuses_the_manifest(old: str, new: str, tmp_path: Path) -> None:
    made = boards.built(boards.package(tmp_path / "package"), tmp_path / "out")
    file = made / "update/rauc/manifest.raucm"
    file.write_text(file.read_text().replace(old, new) if old else file.read_text())
    found = firmware.rauc_check(made / "update", made / boards.embedded.SLOT)
    assert found.state == ("failed" if old else "ok"), found


@needs("mender-artifact")
@pytest.mark.parametrize(("old", "new"), [("", ""), ("ARTIFACT=", "NAME="), ("DEVICE=", "DEVICES=")])
def test_mender_makes_its_artifact_or_refuses_the_descriptor(old: str, new: str, tmp_path: Path) -> None:
    made = boards.built(boards.package(tmp_path / "package"), tmp_path / "out")
    file = made / "update/mender/artifact.conf"
    file.write_text(file.read_text().replace(old, new) if old else file.read_text())
    found = firmware.mender_check(made / "update", made / boards.embedded.SLOT)
    assert found.state == ("failed" if old else "ok"), found


def test_a_tool_that_is_absent_is_said(described, monkeypatch: pytest.MonkeyPatch) -> None:
    package, update = described
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    found = [firmware.swupdate_check(update, package), firmware.rauc_check(update, package),
             firmware.mender_check(update, package)]  # fmt: skip
    assert [one.state for one in found] == ["not-measured"] * 3
    assert "swupdate is not installed (Debian: swupdate)" in found[0].reason


# -- the slot script, its server a file --------------------------------------------------------------------------------


class Slots:
    """Two slots whose server is a shell line that writes which manifest it serves, or does not."""

    def __init__(self, folder: Path, serves: str = "") -> None:
        self.folder, self.state = folder, folder / "state"
        for slot in ("a", "b"):
            (self.state / slot).mkdir(parents=True)
            (self.state / slot / "MANIFEST.json").write_text(slot)
        for link in ("current", "committed"):
            (self.state / link).symlink_to("a")
        restart = f"sha256sum <{self.state}/current/MANIFEST.json >{folder}/address; {serves or 'true'}"
        (folder / "slots.conf").write_text(
            f"STATE={self.state}\nADDRESS={folder}/address\nLOCK={folder}/lock\nRESTART='{restart}'\n"
            f"PROBE='test ! -e {folder}/ill'\nSTART_S=2\nHEALTHY_S=1\nBOARD=x:1\nCERTIFICATE=none\n"
        )

    def run(self, *words: str, script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "EDGEWRIGHT_CONF": str(self.folder / "slots.conf"), "EDGEWRIGHT_SLOT": f"{SCRIPT}"}
        return subprocess.run(
            ["sh", str(script), *words], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def links(self) -> str:
        return "".join(str((self.state / name).readlink()) for name in ("current", "committed"))


def test_a_slot_that_answers_is_committed(tmp_path: Path) -> None:
    one = Slots(tmp_path)
    assert one.run("other").stdout == "b\n"
    found = one.run("try", "b")
    assert (found.returncode, one.links()) == (0, "bb"), found
    assert one.run("other").stdout == "a\n"


@pytest.mark.parametrize("serves", [
    "if grep -q b $STATE/current/MANIFEST.json; then touch $STATE/../ill; else rm -f $STATE/../ill; fi", "false",
     "echo other >$ADDRESS",
])  # fmt: skip
def test_a_slot_that_does_not_goes_back(serves: str, tmp_path: Path) -> None:
    one = Slots(
        tmp_path, serves.replace("$STATE", str(tmp_path / "state")).replace("$ADDRESS", str(tmp_path / "address"))
    )
    found = one.run("try", "b")
    assert (found.returncode, one.links()) == (1, "aa"), found
    assert "slot b is not healthy; back to a" in found.stderr


@pytest.mark.parametrize(("words", "said"), [
    (("try", "a"), "slot a is the committed one"), (("try", "c"), "there is no slot c"),
    (("try",), "wants one argument"), (("format",), "format is not known; there are other, empty"),
])  # fmt: skip
def test_what_the_script_refuses(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    one = Slots(tmp_path)
    found = one.run(*words)
    assert (found.returncode, one.links()) == (2, "aa") and said in found.stderr, found


def test_an_empty_slot_is_not_tried(tmp_path: Path) -> None:
    one = Slots(tmp_path)
    assert one.run("empty").stdout == "b\n"
    assert list((one.state / "b").iterdir()) == [] and (one.state / "a" / "MANIFEST.json").exists()
    assert "holds no package" in one.run("try", "b").stderr
    assert one.links() == "aa"


def test_a_trial_that_was_cut_off_is_undone_and_one_under_way_is_not(tmp_path: Path) -> None:
    one = Slots(tmp_path)
    (one.state / "current").unlink()
    (one.state / "current").symlink_to("b")
    with (tmp_path / "lock").open("w") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        assert (one.run("recover").returncode, one.links()) == (0, "ba")
        assert "another trial is under way" in one.run("try", "b").stderr
        assert one.run("empty").returncode == 2, "a slot on trial is not emptied"
    assert (one.run("recover").returncode, one.links()) == (0, "aa")


@pytest.mark.parametrize(("state", "said", "links"), [
    ("NeedsArtifactReboot", "No\n", "aa"), ("SupportsRollback", "Yes\n", "aa"), ("Cleanup", "", "aa"),
    ("ArtifactInstall", "", "bb"),
])  # fmt: skip
def test_menders_module_installs_into_the_other_slot(state: str, said: str, links: str, tmp_path: Path) -> None:
    one = Slots(tmp_path)
    (tmp_path / "files").mkdir()
    firmware.archive(boards.package(tmp_path / "package"), tmp_path / "files" / "model.tar")
    found = one.run(state, str(tmp_path), script=MODULE)
    assert (found.returncode, found.stdout, one.links()) == (0, said, links), found
    assert (links == "bb") == (one.state / "b" / "model" / "model.gguf").exists()


# -- SWUpdate for real -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@needs(*NEEDS)
def test_an_update_is_installed_cut_off_and_refused_for_real(tmp_path: Path) -> None:
    with board(tmp_path / "board") as one:
        first = one.update(2)
        assert drill.cut_off(one, first) == (1, 0, 0)
        assert one.link("committed") == "b" and one.serves("b")
        assert drill.kills(one, [one.update(3), first], most=1) == (2, 0, 0)
        before = one.link("committed")
        assert one.install(one.update(4, board="another")) != 0
        assert one.link("committed") == before and one.good()
        assert one.refused == 0
