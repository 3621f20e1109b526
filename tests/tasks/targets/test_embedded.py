"""A board's bundle: what is in it, what it refuses, and that each validator refuses what is broken."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tasks.packaging.manifest import CONTENTS, Contents, write_manifest
from tasks.params.whole import load_whole
from tasks.records.base import write_text
from tasks.targets import embedded
from tasks.targets.base import Shipped
from tasks.targets.embedded import firmware, units
from tests import factories as make
from tests import serving

SERVICE = f"root/{units.UNITS}/{units.SERVICE}"
SLOTS = f"root{units.SLOTS}"


def package(folder: Path, backend: str = "gguf") -> Path:
    """A package whose weights are no model: nothing here loads them."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "model.gguf").write_bytes(bytes(range(256)) * 16_000)
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    Contents(
        model="Tiny", origin="made for tests", source_sha256="1" * 64, variant=f"{backend}-x", backend=backend,
        recipe=make.recipe(backend=backend), tensor_share={}, versions={}, runtime={}, settings={}, requirements=(),
        chat=True, verdict="pass", results_digest="d" * 64,
    ).write(folder / CONTENTS)  # fmt: skip
    write_manifest(folder)
    return folder


def shipped(folder: Path, **options: object) -> Shipped:
    contents = Contents.read(folder / CONTENTS)
    return Shipped(folder, contents, make.profile(), "tiny", options, ("word and another word",))


def built(folder: Path, out: Path, device: str = "raspberry-pi", **options: object) -> Path:
    out.mkdir()
    embedded.target("pi", device).build(shipped(folder, **options), out)
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded")
    return built(package(folder / "package"), folder / "out")


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(made, tmp_path / "bundle")


def test_the_same_package_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    again = built(package(tmp_path / "package"), tmp_path / "out")
    files = {file.relative_to(made): file.read_bytes() for file in made.rglob("*") if file.is_file()}
    assert files == {file.relative_to(again): file.read_bytes() for file in again.rglob("*") if file.is_file()}
    assert not any("$" in text.decode(errors="ignore") for name, text in files.items() if name.name == "slots.conf")


def test_nothing_that_was_asked_refuses_it(made: Path) -> None:
    checks = {check.name: check for check in embedded.target("pi", "raspberry-pi").validate(made)}
    assert {name: check.reason for name, check in checks.items() if check.state == "failed"} == {}
    assert checks["the unit, started"].state == checks["bitbake, Buildroot"].state == "not-measured"


def test_a_model_is_fetched_once_and_kept_twice(made: Path) -> None:
    parts = {part.component: part for part in embedded.ledger(made)}
    assert parts["weights"].download_bytes == 4_096_000
    assert parts["weights"].installed_bytes == 8_192_000
    assert sum(part.download_bytes for part in parts.values()) < sum(part.installed_bytes for part in parts.values())


@pytest.mark.parametrize(("backend", "family", "ok", "words"), [
    ("gguf", "tokens", True, "the server has an engine of gguf"),
    ("openvino", "tokens", True, "the server has an engine of openvino"),
    ("onnx", "arrays", False, "an update is committed by an answer in text"),
    ("tests.tasks.toy_backend", "tokens", False, "has no engine"),
])  # fmt: skip
def test_what_it_takes(backend: str, family: str, ok: bool, words: str) -> None:
    found = embedded.target("pi", "raspberry-pi").accepts(make.profile(family=family), make.recipe(backend=backend))
    assert found.ok is ok and words in found.reason


@pytest.mark.parametrize(("options", "words"), [
    ({"prot": 1}, "targets.pi.options.prot is not known; allowed: port, board"),
    ({"port": 0}, "port is 1 to 65535"),
    ({"healthy_s": 0}, "healthy_s at least 1"),
    ({"version": "new"}, "'new' is none; allowed: two to four numbers"),
    ({"board": 'a"; b'}, "allowed: letters, digits"),
    ({"sign_key": "key.pem"}, "sign_key and sign_cert go together"),
    ({"sign_key": "/no/key", "sign_cert": "/no/cert"}, "there is no file /no/key"),
])  # fmt: skip
def test_options_that_are_refused(options: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        built(package(tmp_path / "package"), tmp_path / "out", **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(("backend", "device", "allows"), [
    ("gguf", "raspberry-pi", "yes"), ("onnx", "edge-tpu", "yes"), ("openvino", "intel-box", "no"),
])  # fmt: skip
def test_memory_may_become_executable_only_where_the_runtime_needs_it(
    backend: str, device: str, allows: str, tmp_path: Path
) -> None:
    out = built(package(tmp_path / "package", backend), tmp_path / "out", device)
    assert f"MemoryDenyWriteExecute={allows}\n" in (out / SERVICE).read_text()
    assert units.exposed(out / "root").state in ("ok", "not-measured")
    assert ("lets memory become executable" in (out / "README.md").read_text()) == (allows == "no")


@pytest.mark.parametrize(("device", "hang_s", "probe_s"), [("raspberry-pi", 20.0, 5.0), ("edge-tpu", 80.0, 20.0)])
def test_limits_follow_the_device_into_the_units_parameters(
    device: str, hang_s: float, probe_s: float, tmp_path: Path
) -> None:
    out = built(package(tmp_path / "package"), tmp_path / "out", device)
    read = load_whole(out / "root/etc/edgewright").serve
    assert (read.hang_s, read.probe_s, read.port, read.slots) == (hang_s, probe_s, 8080, 2)
    assert f"127.0.0.1 8080 {hang_s:g}'" in (out / "root/etc/edgewright/slots.conf").read_text()


@pytest.mark.parametrize(("cores", "isa", "architecture", "hang_s"), [
    (4, ("asimd", "asimdhp", "asimddp"), "arm64", 20.0),
    (16, ("avx2",), "x86_64", 20.0),
    (1, ("asimd",), "arm64", 320.0),
    (1, ("sse4_2",), "x86_64", 320.0),
    (None, None, None, 320.0),  # nothing is known: as the slowest
    (1, (), "riscv64", 320.0),
])  # fmt: skip
def test_a_slower_board_is_given_longer(cores, isa, architecture, hang_s: float) -> None:
    found = units.health(cores, isa, architecture)
    assert found == units.Health(hang_s, hang_s / 4)
    assert found.hang_s >= units.HANG_S and found.probe_s >= units.PROBE_S


def replaced(old: str, new: str) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        text = file.read_text()
        assert old in text, f"{file} has no {old!r}"
        file.write_text(text.replace(old, new, 1))

    return change


needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.mark.parametrize(("name", "file", "change", "words"), [
    pytest.param("systemd-analyze verify", SERVICE, replaced("NoNewPrivileges", "NoNewPrivilege"), "Unknown key",
                 marks=needs_systemd),
    pytest.param("systemd-analyze verify", SERVICE, replaced("Restart=always", "Restart=sometimes"), "sometimes",
                 marks=needs_systemd),
    pytest.param("systemd-analyze security", SERVICE, replaced("ProtectSystem=strict\n", ""), "exposure level",
                 marks=needs_systemd),
    pytest.param("cc -Wall", embedded.ASK, replaced("close(fd);\n    start", "int unused;\n    start"), "unused",
                 marks=needs_cc),
    ("sh -n", SLOTS, replaced("esac\n}", "\n}"), "edgewright-slot"),
    ("sh -n", SLOTS, lambda file: file.chmod(0o644), "cannot be executed"),
    ("descriptors", "update/sw-description", replaced('sha256 = "', 'sha256 = "0'), "hash of this package"),
    ("descriptors", "update/switch-b.sh", replaced("postinst", "preinst"), "hash of switch-b.sh"),
    ("descriptors", "update/rauc/manifest.raucm", replaced("size=", "size=1"), "another archive"),
    ("descriptors", "update/rauc/manifest.raucm", replaced("version=1", "version=2"), "manifest.raucm is for"),
    ("manifest of the slot", f"{embedded.SLOT}/model/model.gguf", lambda file: file.write_bytes(b"x"), "was changed"),
    ("manifest of all files", "sample/Makefile", replaced("-Werror", ""), "was changed"),
])  # fmt: skip
def test_each_validator_refuses_what_is_broken(
    name: str, file: str, change: Callable[[Path], None], words: str, bundle: Path
) -> None:
    change(bundle / file)
    checks = embedded.target("pi", "raspberry-pi").validate(bundle)
    [found] = [check for check in checks if check.name.startswith(name)]
    assert found.state == "failed" and words in found.reason, found


def test_less_hardening_is_told_apart(bundle: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    write_text(bundle / SERVICE, "[Service]\nExecStart=/bin/true\n")
    assert units.exposed(bundle / "root").state == "failed"


@pytest.mark.parametrize(("answer", "code", "said"), [
    (b'HTTP/1.1 200 OK\r\n\r\n{"choices": [{"text": " Paris \\"it\\" is"}]}', 0, ' Paris "it" is'),
    (b'HTTP/1.1 200 OK\r\n\r\n{"choices": [{"text": "  "}]}', 1, ""),
    (b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}", 1, "the server answers 503"),
    (b"", 1, ""),
    (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, 1, "no answer"),
])  # fmt: skip
@needs_cc
def test_the_sample_asks_and_judges(answer: bytes, code: int, said: str, made: Path, tmp_path: Path) -> None:
    import socket
    import threading

    program = tmp_path / "ask"
    subprocess.run(["cc", *embedded.FLAGS, "-o", program, made / embedded.ASK], check=True, timeout=60)
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once() -> None:
            one, _ = listener.accept()
            with one:
                while b"temperature" not in b"".join(got):
                    got.append(one.recv(4096))
                one.sendall(answer)

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        port = str(listener.getsockname()[1])
        found = subprocess.run(
            [program, "127.0.0.1", port, "5", 'say "hi"\n'], capture_output=True, text=True, timeout=30
        )
        thread.join(10)
    assert (found.returncode, said in found.stdout + found.stderr) == (code, True), found
    assert b'{"prompt": "say \\"hi\\"\\u000a", "max_tokens": 16, "temperature": 0}' in b"".join(got)


@needs_cc
def test_the_sample_refuses_what_it_cannot_ask(made: Path, tmp_path: Path) -> None:
    program = tmp_path / "ask"
    subprocess.run(["cc", *embedded.FLAGS, "-o", program, made / embedded.ASK], check=True, timeout=60)
    here = ("127.0.0.1", "1")
    for words, code in (((), 2), ((*here, "x"), 2), ((*here, "1", "y" * 9000), 2), ((*here, "1"), 1)):
        assert subprocess.run([program, *words], capture_output=True, timeout=30).returncode == code, words


@pytest.mark.model
@needs_cc
def test_it_answers_as_the_package_and_the_sample_hears_the_server(tiny_model: Path, tmp_path: Path) -> None:
    """Given a bundle of a real, tiny model, then its logits are the package's, and the C program is answered."""
    folder = serving.package(tmp_path / "package", tiny_model)
    out = built(folder, tmp_path / "out")
    compared = embedded.target("pi", "raspberry-pi").compare(shipped(folder), out)
    assert (compared.state, compared.difference) == ("ok", 0.0), compared
    weights = out / embedded.SLOT / "model" / "model.gguf"
    raw = bytearray(weights.read_bytes())
    with serving.server(tmp_path / "server", folder) as one:
        program = tmp_path / "ask"
        subprocess.run(["cc", *embedded.FLAGS, "-o", program, out / embedded.ASK], check=True, timeout=60)
        host, port = one.base.removeprefix("http://").split(":")
        one.until(ready=True, seconds=60)
        found = subprocess.run([program, host, port, "30"], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0 and found.stdout.strip(), found
    for place in range(len(raw) // 2, len(raw) - 64, 64):
        raw[place] ^= 0x15
    weights.write_bytes(raw)
    assert embedded.target("pi", "raspberry-pi").compare(shipped(folder), out).state == "failed"


def test_the_descriptor_tells_whom_it_is_for(made: Path) -> None:
    found = firmware.board_of(made / "update")
    assert (found.name, found.revision, found.version) == ("edgewright-raspberry-pi", "1.0", "1.0.0")
