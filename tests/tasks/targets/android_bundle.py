"""A tiny language model as a package, and an APK of it that can be broken, for tests of the Android target."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tasks.packaging.manifest import CONTENTS, Contents, write_manifest
from tasks.records.bundles import Check
from tasks.targets import android
from tasks.targets.android import apk, checks, tools
from tasks.targets.android.apk import PAGE, Entry
from tasks.targets.base import Shipped
from tests import factories as make

MISSING = tools.missing()
needs_tools = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
WIDTH, HIDDEN, BYTES = 64, 128, 256
WORDS = ["<unk>", "<s>", "</s>", *(f"<0x{number:02X}>" for number in range(BYTES)), "▁paris", "▁is", "▁a", "▁town"]
ROWS = [[259, 260, 261, 262, 5, 70], [262, 261, 9]]
PLACES = "pages of 16 KiB in the archive"
INSIDE = "GGUF inside the archive"
NATIVE = "native libraries (machine, segments of 16 KiB, no glibc)"
TREE = "aapt2 dump xmltree"


def tiny(file: Path, seed: int = 0) -> Path:
    """A llama of one layer with random weights, small enough to be made for every test."""
    random, file_of = np.random.default_rng(seed), gguf.GGUFWriter(file, "llama")
    file_of.add_context_length(128)
    file_of.add_embedding_length(WIDTH)
    file_of.add_block_count(1)
    file_of.add_feed_forward_length(HIDDEN)
    file_of.add_head_count(2)
    file_of.add_head_count_kv(2)
    file_of.add_layer_norm_rms_eps(1e-5)
    file_of.add_vocab_size(len(WORDS))
    file_of.add_tokenizer_model("llama")
    file_of.add_token_list(WORDS)
    file_of.add_token_scores([0.0] * len(WORDS))
    file_of.add_token_types([2, 3, 3] + [6] * BYTES + [1] * (len(WORDS) - BYTES - 3))
    shapes = {f"attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
    shapes |= {"ffn_gate": (HIDDEN, WIDTH), "ffn_up": (HIDDEN, WIDTH), "ffn_down": (WIDTH, HIDDEN)}
    told = {"token_embd.weight": (len(WORDS), WIDTH), **{f"blk.0.{name}.weight": one for name, one in shapes.items()}}
    for name, shape in told.items():
        file_of.add_tensor(name, random.normal(0, 0.3, shape).astype(np.float16))
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        file_of.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    file_of.write_header_to_file()
    file_of.write_kv_data_to_file()
    file_of.write_tensors_to_file()
    file_of.close()
    return file


def shipped(folder: Path, **options: Any) -> Shipped:
    """A package of the tiny model, with these options of the target."""
    if not folder.is_dir():
        (folder / "model").mkdir(parents=True)
        (folder / "tokenizer").mkdir()
        tiny(folder / "model" / "model.gguf")
        known = Tokenizer(models.WordLevel({word.lstrip("▁"): at for at, word in enumerate(WORDS)}, unk_token="<unk>"))
        known.pre_tokenizer = pre_tokenizers.Whitespace()
        known.save(str(folder / "tokenizer" / "tokenizer.json"))
        contents(folder).write(folder / CONTENTS)
        write_manifest(folder)
    return Shipped(
        package=folder, contents=contents(folder), profile=make.profile(), name="tiny", options=options,
        probes=("paris is a town", "a town is paris"),
    )  # fmt: skip


def contents(folder: Path) -> Contents:
    return Contents(
        model="Tiny", origin="made for tests", source_sha256="1" * 64, variant="gguf-tiny", backend="gguf",
        recipe=make.recipe(backend="gguf", precision="fp16"), tensor_share={}, versions={}, runtime={}, settings={},
        requirements=(), chat=False, verdict="pass", results_digest="d" * 64,
    )  # fmt: skip


TARGET = android.target("phone", "android-phone")


def built(given: Shipped, out: Path) -> Path:
    out.mkdir()
    TARGET.build(given, out)
    return out


def found(bundle: Path) -> dict[str, Check]:
    return {one.name: one for one in TARGET.validate(bundle)}


def packed_again(bundle: Path, change: Callable[[list[Entry]], list[Entry]]) -> None:
    """Write the APK anew, its entries changed, and the manifest of all files with it."""
    file = bundle / "model.apk"
    data = file.read_bytes()
    entries = [
        Entry(one.name, data[one.offset : one.offset + one.size], apk.multiple(one.name)) for one in apk.placed(file)
    ]
    apk.write(change(entries), file)
    write_manifest(bundle)


def content(change: Callable[[bytes], bytes], name: str = checks.MODEL) -> Callable[[Path], None]:
    def broken(entries: list[Entry]) -> list[Entry]:
        return [replace(one, content=change(bytes(one.content))) if one.name == name else one for one in entries]

    return lambda bundle: packed_again(bundle, broken)


def shifted(by: int) -> Callable[[Path], None]:
    """The model so many bytes behind a page."""

    def change(entries: list[Entry]) -> list[Entry]:
        [model] = [one for one in entries if one.name == checks.MODEL]
        size = 30 + len(b"a") + 6 + 30 + len(model.name) + 6
        first = Entry("a", bytes(PAGE + by - size), 1)
        return [first, replace(model, multiple=1), *(one for one in entries if one.name != model.name)]

    return lambda bundle: packed_again(bundle, change)


def tensor_moved(data: bytes) -> bytes:
    """One tensor's offset five bytes on, in the header that tells of it."""
    name = b"blk.0.attn_q.weight"
    at = data.index(name) + len(name) + 4 + 2 * 8 + 4
    return data[:at] + struct.pack("<Q", struct.unpack_from("<Q", data, at)[0] + 5) + data[at + 8 :]
