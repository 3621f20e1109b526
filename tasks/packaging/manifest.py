"""The package's manifest: a SHA-256 per file, written once and verified before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import ValidationError

from tasks.errors import ModelError
from tasks.records.base import Record, to_jsonable, write_text
from tasks.records.plan import Recipe
from tasks.records.terms import Backend, Outcome

NAME = "MANIFEST.json"
CONTENTS = "package.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy")
OLD_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")  # how torch.save began before it wrote zip archives
PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # how a pickle begins; it ends with a full stop


class Contents(Record):
    """A package's description of itself, for machines: package.json."""

    schema_version: Literal[1] = 1
    kind: str = "causal-lm"  # of model
    family: Literal["tokens", "arrays"] = "tokens"  # of the sessions it runs in
    model: str
    origin: str
    source_sha256: str  # over the weights of the fp32 reference
    variant: str
    backend: Backend
    recipe: Recipe
    tensor_share: dict[str, float]  # stored type -> share of the weights, counted in the files
    versions: dict[str, str]  # what made the artifact
    runtime: dict[str, str]  # as the runtime that was timed really ran
    settings: dict[str, str]  # tuned ones it was measured with, that differ from the runtime's defaults
    requirements: tuple[str, ...]  # what has to be installed to run it
    chat: bool  # whether the tokenizer has a chat template
    verdict: Outcome
    results_digest: str


class FileEntry(Record):
    path: str  # relative to the package, with forward slashes
    sha256: str
    size_bytes: int


class Manifest(Record):
    """Every file of a package but the manifest itself, in path order."""

    schema_version: Literal[1] = 1
    files: tuple[FileEntry, ...]


def listing(folder: Path) -> Manifest:
    """Every file of `folder` with its digest; raises ModelError for links, which could lead out of it."""
    return Manifest(
        files=tuple(
            FileEntry(path=file.relative_to(folder).as_posix(), sha256=sha256(file), size_bytes=file.stat().st_size)
            for file in _files(folder)
        )
    )


def findings(folder: Path, manifest: Manifest) -> list[str]:
    """List the faults of the files of `folder`: missing, unexpected, unsafe or changed ones."""
    listed = {entry.path: entry for entry in manifest.files}
    try:
        present = {file.relative_to(folder).as_posix(): file for file in _files(folder)}
    except ModelError as error:
        return [str(error)]
    found = [f"{name} is missing" for name in sorted(listed.keys() - present.keys())]
    found += [f"{name} is unexpected, the manifest does not list it" for name in sorted(present.keys() - listed.keys())]
    for name, file in present.items():
        problem = unsafe(file) or (_difference(file, listed[name]) if name in listed else "")
        found += [f"{name} {problem}"] if problem else []
    return found


def write_manifest(folder: Path) -> str:
    """Write MANIFEST.json over the files of `folder` and return its own SHA-256.

    The same files give the same manifest. Raises ModelError for links and for formats that can run code.
    """
    manifest = listing(folder)
    for entry in manifest.files:
        problem = unsafe(folder / entry.path)
        if problem:
            raise ModelError(f"{entry.path} may not go into a package: {problem}")
    text = json.dumps(to_jsonable(manifest), indent=2) + "\n"
    write_text(folder / NAME, text)
    return hashlib.sha256(text.encode()).hexdigest()


def verify_manifest(folder: Path, expected: str | None = None) -> str:
    """Check every file of `folder` against its manifest and return the manifest's SHA-256.

    `expected` is the manifest's own SHA-256 when it is known from elsewhere. Raises ModelError naming the changed,
    missing, unexpected or unsafe file.
    """
    manifest = read_manifest(folder)
    found = sha256(folder / NAME)
    if expected is not None and found != expected:
        raise ModelError(f"{folder / NAME} is not the one that was registered ({found[:12]}, not {expected[:12]}); "
                         "fetch the package again")  # fmt: skip
    wrong = findings(folder, manifest)
    if wrong:
        raise ModelError(f"{folder}: {wrong[0]}; fetch the package again")
    return found


def read_manifest(folder: Path) -> Manifest:
    """Read MANIFEST.json; raises ModelError when it is absent, broken or of another schema version."""
    try:
        return Manifest.model_validate_json((folder / NAME).read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{folder} has no {NAME}, so it cannot be trusted; run `dvc repro package`") from None
    except ValidationError as error:
        raise ModelError(f"{folder / NAME} is not a manifest of schema version 1: {error}") from error


def sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def unsafe(file: Path) -> str:
    """Say why a file may run code when opened; empty when it may not.

    Weights of OpenVINO's IR end in .bin too: raw bytes that its .xml of the same name describes. Those are allowed.
    """
    with file.open("rb") as stream:
        head = stream.read(len(OLD_TORCH))
    if head == OLD_TORCH or (head.startswith(b"PK\x03\x04") and _holds_pickle(file)):
        return "it is a PyTorch pickle, which can run code when opened; store the weights as safetensors"
    if _is_openvino_weights(file):
        return ""
    if file.suffix.lower() in PICKLES:
        return f"{file.suffix} files are pickles, which can run code when opened; store the weights as safetensors"
    if head.startswith(PROTOCOLS) and _last_byte(file) == b".":
        return "its bytes are those of a pickle, which can run code when opened; store the weights as safetensors"
    return ""


def _holds_pickle(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(PurePosixPath(name).suffix in PICKLES for name in archive.namelist())
    except zipfile.BadZipFile:
        return True  # begins as an archive and cannot be read as one: nothing a runtime loads looks like this


def _is_openvino_weights(file: Path) -> bool:
    description = file.with_suffix(".xml")
    if file.suffix != ".bin" or not description.is_file():
        return False
    with description.open("rb") as stream:
        return b"<net " in stream.read(512)


def _last_byte(file: Path) -> bytes:
    with file.open("rb") as stream:
        stream.seek(-1, 2)
        return stream.read(1)


def _difference(file: Path, entry: FileEntry) -> str:
    size = file.stat().st_size
    if size != entry.size_bytes:
        return f"was changed: {size} bytes, the manifest says {entry.size_bytes}"
    return "" if sha256(file) == entry.sha256 else "was changed: its SHA-256 is not the manifest's"


def _files(folder: Path) -> Iterator[Path]:
    """Every file under `folder` but the manifest; a link could lead out of the package and is refused."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ModelError(f"{folder}: {path.relative_to(folder).as_posix()} is a link; a package holds plain files")
        if path.is_file() and path != folder / NAME:
            yield path
