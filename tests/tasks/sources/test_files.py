"""Models that are not what they seem: named, refused, and nothing left behind."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import ModelError, ResourceError
from tasks.fetch import fetch
from tasks.params.pipeline import Fetch
from tasks.sources import files as source
from tasks.sources import gguf
from tasks.sources.safetensors import tensors


def safetensors(path: Path, cut: int = 0) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    data = struct.pack("<Q", len(header)) + header + b"\0" * 8
    path.write_bytes(data[: len(data) - cut])


@pytest.mark.parametrize(
    ("model", "kind"),
    [("sample", "sample"), ("HuggingFaceTB/SmolLM2-135M-Instruct", "hub")],
)
def test_what_a_name_means(model, kind):
    assert source.kind_of(model) == kind


@pytest.mark.parametrize("model", ["./nowhere", "/no/such/dir", "missing.gguf", "just-a-word", "a/b/c"])
def test_a_model_that_is_not_there_says_what_is_allowed(model):
    with pytest.raises(ModelError, match="is not there; allowed: 'sample'"):
        source.kind_of(model)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "weights.zip").write_bytes(b"PK")
    with pytest.raises(ModelError, match="give a .gguf file or a Hugging Face directory"):
        source.kind_of(str(tmp_path / "weights.zip"))


def test_a_pickle_checkpoint_is_refused_unless_allowed(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="pickle weights .*fetch.allow_pickle: true"):
        source.check_directory(tmp_path, allow_pickle=False)
    source.check_directory(tmp_path, allow_pickle=True)


@pytest.mark.parametrize("cut", [1, 8, 20, 40])
def test_truncated_safetensors_are_refused(tmp_path, cut):
    (tmp_path / "config.json").write_text("{}")
    safetensors(tmp_path / "model.safetensors", cut)
    with pytest.raises(ModelError, match="truncated|cut|unreadable"):
        source.check_directory(tmp_path, allow_pickle=False)


def test_a_whole_directory_is_taken(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    safetensors(tmp_path / "model.safetensors")
    source.check_directory(tmp_path, allow_pickle=False)


def test_a_missing_shard_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    safetensors(tmp_path / "a.safetensors")
    index = {"weight_map": {"w": "a.safetensors", "v": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="names b.safetensors, not there"):
        source.check_directory(tmp_path, allow_pickle=False)


@pytest.mark.parametrize(("files", "words"), [([], "no config.json"), (["config.json"], "has no weights")])
def test_an_incomplete_directory_says_what_is_missing(tmp_path, files, words):
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelError, match=words):
        source.check_directory(tmp_path, allow_pickle=False)


def test_a_truncated_gguf_is_refused(tmp_path):
    cut = tmp_path / "cut.gguf"
    with source.sample_path().open("rb") as whole:
        cut.write_bytes(whole.read(20_000_000))
    with pytest.raises(ModelError, match="truncated"):
        gguf.check(cut)


def test_something_else_called_gguf_is_refused(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04 not a model")
    with pytest.raises(ModelError, match="not a GGUF file"):
        gguf.check(tmp_path / "x.gguf")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_never_taken_for_safetensors(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("random") / "model.safetensors"
    file.write_bytes(data)
    try:
        tensors(file)
    except ModelError:
        return
    length = int.from_bytes(data[:8], "little")
    assert data[8 : 8 + length].startswith(b"{")


def test_a_refused_model_leaves_the_earlier_one_alone(tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    (out / "mark").write_text("kept")
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "config.json").write_text("{}")
    (bad / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError):
        fetch(Fetch(model=str(bad)), out)
    assert (out / "mark").read_text() == "kept"
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_no_room_on_the_disk_is_said_before_starting(tmp_path, monkeypatch):
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - 10**6, 10**6))
    with pytest.raises(ResourceError, match=r"needs about \d+\.\d GB .* 0.0 GB are free"):
        fetch(Fetch(model="sample"), tmp_path / "model")


def test_a_hub_id_without_a_network_says_what_to_do(tmp_path, monkeypatch):
    import huggingface_hub

    def offline(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ModelError, match="check the network, or download the model elsewhere"):
        fetch(Fetch(model="owner/name"), tmp_path / "model")


def test_a_hub_id_with_a_network_takes_only_safe_files(tmp_path, monkeypatch, tiny_model):
    import huggingface_hub

    asked = {}

    def download(repo, **options):
        asked.update(options, repo=repo)
        return str(tiny_model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    record = fetch(Fetch(model="owner/name", revision="v1"), tmp_path / "model")
    assert asked["repo"] == "owner/name"
    assert asked["revision"] == "v1"
    assert not any("bin" in pattern for pattern in asked["allow_patterns"])
    assert record.name == "name"
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_a_directory_becomes_an_fp32_checkpoint_with_its_origin(tmp_path, tiny_model):
    record = fetch(Fetch(model=str(tiny_model)), tmp_path / "model")
    assert record == source.Source.read(tmp_path / "model" / "source.json")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in (tmp_path / "model").iterdir()}
    assert len(record.sha256) == 64


def test_a_single_gguf_file_is_taken(tmp_path, tiny_model):
    from tasks.backends.base import Work
    from tasks.backends.table import backend
    from tests.factories import recipe

    made = tmp_path / "gguf"
    made.mkdir()
    work = Work(model=tiny_model, calibration=(), threads=2)
    backend("gguf").convert(work, recipe(backend="gguf", precision="fp16", method="default"), made)
    record = fetch(Fetch(model=str(made / "model.gguf")), tmp_path / "model")
    assert "F16 weights expanded once to fp32" in record.origin
    assert (tmp_path / "model" / "model.safetensors").is_file()
