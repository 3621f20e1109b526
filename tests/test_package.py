"""The package stage, its manifest, its words and the lines that run it."""

from __future__ import annotations

import ast
import json
import pickle
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import package as stage
from tasks import paths
from tasks.backends import gguf
from tasks.backends.base import MODULES
from tasks.errors import DataError, ModelError
from tasks.packaging import card, how_to_run, manifest
from tasks.records import GateReport, Metric, Package, Recommendation, Verdict
from tests.finished import FILES, WINNER, finished, report


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def made() -> Package:
    found = stage.package(GateReport.read(paths.VERDICTS), Recommendation.read(paths.RECOMMENDATION), paths.PACKAGE)
    found.write(paths.PACKAGE_RECORD)
    return found


# manifest


def folder(root: Path = Path("box")) -> Path:
    for name, text in {"a.txt": "alpha", "deep/b.json": "{}", "empty": ""}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_manifest_names_every_file_and_is_the_same_every_time() -> None:
    box = folder()
    first = manifest.write_manifest(box)
    assert (
        first == manifest.write_manifest(box) == manifest.sha256(box / manifest.NAME) == manifest.verify_manifest(box)
    )
    entries = {e.path: (e.size_bytes, e.sha256[:8]) for e in manifest.read_manifest(box).files}
    assert entries == {"a.txt": (5, "8ed3f6ad"), "deep/b.json": (2, "44136fa3"), "empty": (0, "e3b0c442")}


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (lambda box: (box / "a.txt").write_text("alphA"), "a.txt was changed: its SHA-256"),
        (lambda box: (box / "a.txt").write_text("alphabet"), "a.txt was changed: 8 bytes, the manifest says 5"),
        (lambda box: (box / "deep/b.json").unlink(), "deep/b.json is missing"),
        (lambda box: (box / "deep/new.txt").write_text("x"), "deep/new.txt is unexpected"),
        (lambda box: (box / "link").symlink_to("/etc/hostname"), "link is a link"),
        (lambda box: (box / manifest.NAME).unlink(), "has no MANIFEST.json"),
        (lambda box: (box / manifest.NAME).write_text("{"), "is not a manifest of schema version 1"),
        (lambda box: (box / manifest.NAME).write_text('{"schema_version": 2, "files": []}'), "schema_version"),
        (lambda box: (box / manifest.NAME).write_text('{"schema_version": 1, "files": []}'), "is unexpected"),
    ],
)
def test_a_changed_package_is_refused_by_the_name_of_the_file(harm, text: str) -> None:
    box = folder()
    manifest.write_manifest(box)
    harm(box)
    with pytest.raises(ModelError, match=text):
        manifest.verify_manifest(box)


def test_a_manifest_rewritten_with_the_files_is_told_by_its_own_digest() -> None:
    box = folder()
    registered = manifest.write_manifest(box)
    (box / "a.txt").write_text("other")
    manifest.write_manifest(box)
    manifest.verify_manifest(box)
    with pytest.raises(ModelError, match="not the one that was registered"):
        manifest.verify_manifest(box, registered)


@settings(max_examples=30, deadline=None)
@given(position=st.integers(0, 2047), flip=st.integers(1, 255))
def test_any_changed_byte_is_found(tmp_path_factory: pytest.TempPathFactory, position: int, flip: int) -> None:
    box = tmp_path_factory.mktemp("box")
    content = bytearray(range(256)) * 8
    (box / "weights.safetensors").write_bytes(content)
    manifest.write_manifest(box)
    content[position] ^= flip
    (box / "weights.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="weights.safetensors was changed"):
        manifest.verify_manifest(box)


def archive(entry: str) -> bytes:
    with zipfile.ZipFile("made.zip", "w") as made:
        made.writestr(entry, "x")
    return Path("made.zip").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        *((f"weights{end}", lambda: b"anything", f"{end} files are pickles") for end in manifest.PICKLES),
        ("weights.PT", lambda: b"anything", "files are pickles"),
        ("disguised.json", lambda: pickle.dumps({"a": 1}), "its bytes are those of a pickle"),
        ("old.model", lambda: manifest.OLD_TORCH + b"rest", "PyTorch pickle"),
        ("new.model", lambda: archive("archive/data.pkl"), "PyTorch pickle"),
        ("cut.model", lambda: archive("a.txt")[:20], "PyTorch pickle"),
    ],
)
def test_formats_that_can_run_code_are_refused(name: str, content, text: str) -> None:
    (box := Path("box")).mkdir()
    (box / name).write_bytes(content())
    with pytest.raises(ModelError, match=f"{name} may not go into a package.*{text}"):
        manifest.write_manifest(box)


def test_openvino_weights_are_no_pickle_but_a_pickle_beside_an_xml_still_is() -> None:
    (box := Path("box")).mkdir()
    (box / "model.xml").write_text('<?xml version="1.0"?><net name="x">')
    (box / "model.bin").write_bytes(b"\x80\x04raw weights.")
    manifest.write_manifest(box)
    (box / "model.bin").write_bytes(archive("archive/data.pkl"))
    with pytest.raises(ModelError, match=r"model.bin may not go into a package: it is a PyTorch pickle"):
        manifest.write_manifest(box)
    (box / "model.xml").write_text("<html>")
    (box / "model.bin").write_bytes(b"raw weights")
    with pytest.raises(ModelError, match="files are pickles"):
        manifest.write_manifest(box)


def test_a_plain_archive_without_pickles_is_allowed() -> None:
    (box := Path("box")).mkdir()
    (box / "texts.zip").write_bytes(archive("a.txt"))
    manifest.write_manifest(box)


# how to run


TUNED = {
    "openvino": {"KV_CACHE_PRECISION": "bf16", "threads": "half"},
    "onnx": {"session.intra_op.allow_spinning": "0"},
    "gguf": {"kv_cache": "q8_0", "n_ubatch": "128"},
}


@pytest.mark.parametrize("backend", TUNED)
def test_the_lines_run_it_with_the_settings_it_was_measured_with(backend) -> None:
    text = "\n".join(how_to_run.lines(backend, True, TUNED[backend]))
    assert all(value in text or name == "threads" or value == "q8_0" for name, value in TUNED[backend].items())
    assert "type_k=8" in text or backend != "gguf"


@pytest.mark.parametrize("tuned", [True, False])
@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("backend", MODULES)
def test_every_backend_has_lines_that_are_python_and_requirements(backend, chat: bool, tuned: bool) -> None:
    lines = how_to_run.lines(backend, chat, TUNED.get(backend, {}) if tuned else {})
    ast.parse("\n".join(lines))
    assert "print(" in lines[-1]
    assert any('"model' in line for line in lines)
    assert how_to_run.PACKAGES[backend]
    assert how_to_run.NEEDS[backend]


@pytest.mark.parametrize("flash", [{}, *({"flash_attn": one} for one in gguf.SETTINGS["flash_attn"])])
@pytest.mark.parametrize("cache", [{}, *({"kv_cache": one} for one in gguf.SETTINGS["kv_cache"])])
def test_the_lines_for_llama_cpp_compute_attention_as_it_was_measured(
    flash: dict[str, str], cache: dict[str, str]
) -> None:
    text = "\n".join(how_to_run.lines("gguf", True, flash | cache))
    assert ("flash_attn=True" in text) == gguf.flash(flash | cache)


@pytest.mark.parametrize(
    ("version", "pinned"), [("2.13.0+cpu", "torch==2.13.0"), ("not installed", "torch"), ("", "torch")]
)
def test_pins_are_public_versions(version: str, pinned: str) -> None:
    assert how_to_run.pin("torch", version) == pinned


# the stage


def test_the_winner_is_packaged_whole() -> None:
    finished()
    record = made()
    assert (record.status, record.variant, record.verdict) == ("ok", WINNER, "pass")
    assert manifest.verify_manifest(paths.PACKAGE) == record.manifest_sha256
    assert (paths.PACKAGE / "model/openvino_model.bin").read_bytes() == FILES["openvino_model.bin"]
    assert (paths.PACKAGE / "tokenizer/chat_template.jinja").is_file()
    contents = manifest.Contents.read(paths.PACKAGE / manifest.CONTENTS)
    assert (contents.backend, contents.chat, contents.verdict) == ("openvino", True, "pass")
    assert contents.results_digest == GateReport.read(paths.VERDICTS).results_digest
    assert "openvino==2026.4.1" in contents.requirements


def test_the_same_results_give_the_same_package() -> None:
    finished()
    first = made()
    assert made() == first


def test_readme_and_card_say_what_was_measured() -> None:
    finished()
    made()
    readme = (paths.PACKAGE / "README.md").read_text()
    for line in how_to_run.lines("openvino", True, {}):
        assert line in readme
    text = (paths.PACKAGE / "CARD.md").read_text()
    for part in (
        "made for tests",  # origin
        "Apache-2.0",
        "| decode, tokens/s | 75.0 | 67.5 to 82.5 |",
        "| next-token accuracy retained | 99.60% |",
        "| min_retention | 0.996 | from 0.95 | pass |",
        "2 usable cores",
        "40 rows (7448 predictions)",
    ):
        assert part in text


def test_a_card_says_what_was_not_measured() -> None:
    gap = Metric(state="not-measured", reason="no Metal | on Linux")
    assert card._value(gap, "{:.1f}") == "not measured on this device: no Metal / on Linux"
    assert card._value(Metric(state="missing", reason="crash"), "{:.1f}") == "missing: crash"
    assert card._spread(Metric(value=1.0, se=0.25), None, "{:.2f}") == "± 0.25"


@pytest.mark.parametrize(
    ("outcome", "said"), [("fail", "min_retention by 5.3%"), ("inconclusive", "could not be judged")]
)
def test_without_a_pass_there_is_a_reason_and_no_model(outcome, said: str) -> None:
    finished(outcome=outcome)
    record = made()
    assert (record.status, record.variant, record.verdict, record.manifest_sha256) == ("skipped", None, outcome, "")
    assert [file.name for file in paths.PACKAGE.iterdir()] == ["README.md"]
    readme = (paths.PACKAGE / "README.md").read_text()
    assert f"1. **{WINNER}**" in readme
    assert said in readme


def test_an_old_package_gives_way_when_nothing_passes() -> None:
    finished()
    made()
    finished(outcome="fail")
    made()
    assert not (paths.PACKAGE / "model").exists()


def test_a_report_that_contradicts_its_winners_verdict_packages_nothing() -> None:
    finished()
    good = GateReport.read(paths.VERDICTS)
    lying = good.model_copy(update={"verdicts": (Verdict(variant=WINNER, outcome="inconclusive", expectations=()),)})
    record = stage.package(lying, Recommendation.read(paths.RECOMMENDATION), paths.PACKAGE)
    assert (record.status, record.verdict) == ("skipped", "fail")
    assert "the verdict on its winner openvino-int8 does not" in record.reason


def test_verdicts_about_other_results_are_refused() -> None:
    finished(decode=75.0)
    stale = GateReport.read(paths.VERDICTS)
    finished(decode=80.0)
    with pytest.raises(DataError, match="is about other results than.*dvc repro gate"):
        stage.package(stale, Recommendation.read(paths.RECOMMENDATION), paths.PACKAGE)


@pytest.mark.parametrize("lost", ["openvino_tokenizer.xml", "openvino_model.bin"])
def test_a_winner_with_a_lost_file_is_refused_and_nothing_half_written_stays(lost: str) -> None:
    finished()
    (paths.artifact_files(WINNER) / lost).unlink()
    with pytest.raises(DataError, match=f"lacks {lost}; run `python -m tasks.convert"):
        made()
    assert not paths.PACKAGE.exists()
    assert not list(paths.ARTIFACTS.glob(".package*"))


def test_a_pickle_among_the_winners_files_is_refused_and_the_old_package_stays() -> None:
    finished()
    made()
    before = (paths.PACKAGE / manifest.NAME).read_bytes()
    finished(files={**FILES, "extra.pkl": pickle.dumps(1)})
    with pytest.raises(ModelError, match=r"model/extra.pkl may not go into a package"):
        made()
    assert (paths.PACKAGE / manifest.NAME).read_bytes() == before


def test_the_command_writes_record_and_folder(capsys: pytest.CaptureFixture[str]) -> None:
    finished()
    assert stage.main([]) == 0
    assert Package.read(paths.PACKAGE_RECORD).status == "ok"
    assert f"package: {WINNER}, 0 MB in artifacts/package" in capsys.readouterr().out


def test_the_command_reports_a_missing_record_as_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.main([]) == 2
    assert "verdicts.json does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings_", "template", "chat"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"chat_template": "{{ x }}"}, False, True),
        ({"chat_template": ""}, False, False),
    ],
)
def test_where_a_chat_template_may_be(settings_: dict[str, str], template: bool, chat: bool) -> None:
    Path("tokenizer_config.json").write_text(json.dumps(settings_))
    if template:
        Path("chat_template.jinja").write_text("{{ messages }}")
    assert stage.has_chat_template(Path()) is chat


def test_the_report_of_the_fixture_is_about_its_results() -> None:
    finished()
    assert report(Recommendation.read(paths.RECOMMENDATION)) == GateReport.read(paths.VERDICTS)
