"""iOS bundles: laid out so that they can be mapped and that MLX reads them; each validator refuses a broken one."""

from __future__ import annotations

import json
import plistlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import ConfigError, UnsupportedError
from tasks.packaging.manifest import CONTENTS, write_manifest
from tasks.records.bundles import Check
from tasks.targets import ios
from tasks.targets.base import Shipped
from tasks.targets.ios import safetensors
from tests.factories import contents, profile, recipe

CONFIG = {"model_type": "llama", "quantization": {"group_size": 64, "bits": 4}}


@pytest.fixture
def shipped(tmp_path: Path) -> Shipped:
    """A package with the files of mlx-lm: two shards, a tokenizer."""
    from safetensors.numpy import save_file

    package = tmp_path / "package"
    (package / "model").mkdir(parents=True)
    (package / "tokenizer").mkdir()
    dice = np.random.default_rng(3)
    packed = {
        "model.embed_tokens.weight": dice.integers(0, 2**32, (40, 8), dtype=np.uint32),
        "model.layers.0.mlp.up_proj.weight": dice.integers(0, 2**32, (24, 8), dtype=np.uint32),
        "model.norm.weight": dice.standard_normal(7).astype(np.float16),
    }
    save_file({name: packed[name] for name in list(packed)[:2]}, package / "model" / "model-00001-of-00002.safetensors")
    save_file(
        {"model.norm.weight": packed["model.norm.weight"]}, package / "model" / "model-00002-of-00002.safetensors"
    )
    (package / "model" / "config.json").write_text(json.dumps(CONFIG))
    (package / "tokenizer" / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"é": 0}}}, indent=4))
    (package / "tokenizer" / "tokenizer_config.json").write_text("{}")
    found = contents("mlx")
    found.write(package / CONTENTS)
    write_manifest(package)
    return Shipped(package=package, contents=found, profile=profile(), name="edgewright-sample")


@pytest.fixture
def bundle(shipped: Shipped, tmp_path: Path) -> Path:
    out = tmp_path / "bundle"
    out.mkdir()
    ios.Ios("phone", "iphone").build(shipped, out)
    return out


def said(bundle: Path, name: str) -> Check:
    return next(one for one in ios.Ios("phone", "iphone").validate(bundle) if name in one.name)


def test_the_weights_are_one_file_on_a_page_that_any_reader_takes(shipped: Shipped, bundle: Path) -> None:
    from safetensors.numpy import load_file

    file = bundle / "Model" / "model.safetensors"
    found, tensors = safetensors.header(file), load_file(file)
    assert found.begins % ios.PAGE == 0
    assert found.gap() == ""
    expected = {}
    for shard in (shipped.model).glob("*.safetensors"):
        expected |= load_file(shard)
    assert tensors.keys() == expected.keys()
    assert all(np.array_equal(tensors[name], expected[name]) for name in expected)


def test_tensors_can_be_taken_as_views_of_the_mapped_data(bundle: Path) -> None:
    from safetensors.numpy import load_file

    file = bundle / "Model" / "model.safetensors"
    found, tensors = safetensors.header(file), load_file(file)
    whole = np.memmap(file, np.uint8, mode="r", offset=found.begins)
    types = {"U32": np.uint32, "F16": np.float16}
    for name, one in found.tensors.items():
        view = whole[one.start : one.end].view(types[one.dtype]).reshape(one.shape)
        assert np.array_equal(view, tensors[name])


def test_two_builds_are_the_same_to_the_byte(shipped: Shipped, bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    ios.Ios("phone", "iphone").build(shipped, other)
    files = sorted(file.relative_to(bundle) for file in bundle.rglob("*") if file.is_file())
    assert files == sorted(file.relative_to(other) for file in other.rglob("*") if file.is_file())
    assert all((bundle / name).read_bytes() == (other / name).read_bytes() for name in files)


def test_a_whole_bundle_is_refused_by_nothing(bundle: Path) -> None:
    found = ios.Ios("phone", "iphone").validate(bundle)
    assert [one for one in found if one.state == "failed"] == []
    assert {one.name for one in found if one.state == "not-measured"} == {"swiftc"}


def test_the_ledger_counts_every_byte_once(bundle: Path) -> None:
    parts = ios.ledger(bundle)
    assert sum(one.installed_bytes for one in parts) == sum(f.stat().st_size for f in bundle.rglob("*") if f.is_file())
    assert next(one for one in parts if one.component == "embedding").installed_bytes == 40 * 8 * 4


def shifted(bundle: Path) -> None:
    """The header four bytes shorter, so that the data begins off the page."""
    file = bundle / "Model" / "model.safetensors"
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    file.write_bytes((length - 4).to_bytes(8, "little") + raw[8 : 8 + length - 4] + raw[8 + length :])


def cut(bundle: Path) -> None:
    file = bundle / "Model" / "model.safetensors"
    file.write_bytes(file.read_bytes() + b"\0" * 16)


def wide(bundle: Path) -> None:
    from safetensors.numpy import save_file

    file = bundle / "Model" / "model.safetensors"
    save_file({"a": np.zeros((4, 4), np.float32)}, file)
    safetensors.merge([file], file.with_suffix(".new"), ios.PAGE)
    file.with_suffix(".new").replace(file)


def unknown_type(bundle: Path) -> None:
    (bundle / "Model" / "config.json").write_text(json.dumps(CONFIG | {"model_type": "nobodys"}))


def no_groups(bundle: Path) -> None:
    (bundle / "Model" / "config.json").write_text(json.dumps({"model_type": "llama"}))


def no_privacy(bundle: Path) -> None:
    (bundle / "App" / "PrivacyInfo.xcprivacy").write_bytes(plistlib.dumps({}))


def no_plist(bundle: Path) -> None:
    (bundle / "App" / "Info.plist").write_text("<plist>")


def other_folder(bundle: Path) -> None:
    file = bundle / ios.ASSETS
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fileSelectors": [{"directory": "Weights"}]}))


def no_swift(bundle: Path) -> None:
    file = next(bundle.rglob("MappedWeights.swift"))
    file.write_text(file.read_text().replace("public enum MappedWeights {", "public enum MappedWeights {{"))


@pytest.mark.parametrize(
    ("broken", "name", "words"),
    [
        (shifted, "weights", "no multiple of 16384"),
        (cut, "weights", "16 bytes at the end belong to no tensor"),
        (wide, "weights", "32 bits"),
        (unknown_type, "config.json", "'nobodys'"),
        (no_groups, "config.json", "group size"),
        (no_privacy, "property lists", "PrivacyInfo.xcprivacy lacks"),
        (no_plist, "property lists", "cannot be read"),
        (other_folder, "Background Assets manifest", "Weights, which is not there"),
        (no_swift, "Swift syntax", "MappedWeights.swift, line"),
    ],
)
def test_a_broken_bundle_is_refused(bundle: Path, broken: Callable[[Path], None], name: str, words: str) -> None:
    broken(bundle)
    found = said(bundle, name)
    assert found.state == "failed"
    assert words in found.reason
    assert said(bundle, "manifest of all files").state == "failed"


def test_options_are_checked(shipped: Shipped, tmp_path: Path) -> None:
    for given, words in (
        ({"downlaod": "prefetch"}, "is not known; allowed: bundle_id"),
        ({"download": "later"}, "allowed: essential, prefetch, onDemand"),
        ({"bundle_id": 3}, "is no str"),
    ):
        wanted = Shipped(shipped.package, shipped.contents, shipped.profile, shipped.name, options=given)
        with pytest.raises(ConfigError, match=words):
            ios.Ios("phone", "iphone").build(wanted, tmp_path)


def test_files_of_other_runtimes_are_refused(shipped: Shipped, tmp_path: Path) -> None:
    for file in shipped.model.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(UnsupportedError, match="no safetensors"):
        ios.Ios("phone", "iphone").build(shipped, tmp_path)
    told = ios.Ios("phone", "iphone").accepts(profile(), recipe(backend="gguf"))
    assert (told.ok, told.reason) == (False, "an app maps MLX's files, not those of gguf")
    assert not ios.Ios("phone", "iphone").accepts(profile(model_type="nobodys"), recipe(backend="mlx")).ok
    assert ios.Ios("phone", "iphone").accepts(profile(model_type="llama"), recipe(backend="mlx")).ok
