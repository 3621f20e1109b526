"""A package as an OCI artifact: a layout folder whose digest names every byte of the model.

Two manifests may stand in one layout. `modelpack` is a CNCF ModelPack artifact, each file a raw layer: for model tools,
and runtimes that mount artifacts. `image` is an ordinary image of the same files in uncompressed layers, for runtimes
that mount images alone. The formats are those of the OCI image specification 1.1 and of the ModelPack specification 1.
Nothing in a layout has a time or an owner, so the same package gives the same digests.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tasks.errors import ModelError
from tasks.packaging.manifest import NAME, Contents, listing
from tasks.records.base import write_text
from tasks.records.model import ModelProfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
WEIGHT = "application/vnd.cncf.model.weight.v1.raw"
SETTINGS = "application/vnd.cncf.model.weight.config.v1.raw"
DOCUMENT = "application/vnd.cncf.model.doc.v1.raw"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
TAR = "application/vnd.oci.image.layer.v1.tar"
FILEPATH, TITLE = "org.cncf.model.filepath", "org.opencontainers.image.title"
REF = "org.opencontainers.image.ref.name"
MODELPACK, IMAGE = "modelpack", "image"  # names of the manifests in a layout
WEIGHTS = (".gguf", ".bin", ".safetensors", ".onnx", ".data", ".ort", ".npz")
CHUNK = 2**20
# What the model specification's schema has; it takes no other keys.
DESCRIPTOR_KEYS = {
    "createdAt", "authors", "family", "name", "docURL", "sourceURL", "datasetsURL", "version", "revision", "vendor",
    "licenses", "title", "description",
}  # fmt: skip
CONFIG_KEYS = {
    "architecture", "format", "paramSize", "precision", "quantization", "transformerConfig", "capabilities"
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One file of a package as a layer."""

    path: str
    digest: str
    size: int
    kind: str  # its media type

    def descriptor(self) -> dict[str, Any]:
        """The layer as a manifest names it."""
        said = {FILEPATH: self.path, TITLE: self.path}
        return {"mediaType": self.kind, "digest": self.digest, "size": self.size, "annotations": said}


def write(package: Path, contents: Contents, profile: ModelProfile, out: Path, image: bool) -> dict[str, str]:
    """Write the layout of a package into the folder `out`; returns the digest of each manifest by its name.

    With `image` the files are there twice, raw and in the layers of an image.
    """
    (out / "blobs" / "sha256").mkdir(parents=True)
    files = [entry.path for entry in listing(package).files] + [NAME]
    raw = [_put_file(package, path, out) for path in sorted(files)]
    made = {MODELPACK: _manifest(out, raw, CONFIG, _model_config(contents, profile, raw), ARTIFACT)}
    if image:
        layers = [_put_tar(package, path, out) for path in sorted(files)]
        made[IMAGE] = _manifest(out, layers, IMAGE_CONFIG, _image_config(layers), "")
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            {
                "mediaType": MANIFEST,
                **({"artifactType": ARTIFACT} if name == MODELPACK else {}),
                "digest": digest,
                "size": blob(out, digest).stat().st_size,
                "annotations": {REF: name},
            }
            for name, digest in made.items()
        ],
    }
    write_text(out / "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}))
    write_text(out / "index.json", json.dumps(index, indent=2, sort_keys=True) + "\n")
    return made


def blob(layout: Path, digest: str) -> Path:
    """Where a layout keeps a blob; raises ModelError for what is no SHA-256 digest."""
    kind, _, name = digest.partition(":")
    if kind != "sha256" or len(name) != 64 or not set(name) <= set("0123456789abcdef"):
        raise ModelError(f"{digest!r} is no digest; allowed: sha256: and 64 hexadecimal digits")
    return layout / "blobs" / "sha256" / name


def digests(layout: Path) -> dict[str, str]:
    """The digest of each manifest of a layout by its name; raises ModelError for a folder that is no layout."""
    try:
        version = json.loads((layout / "oci-layout").read_bytes())["imageLayoutVersion"]
        index = json.loads((layout / "index.json").read_bytes())
        found = {str(one["annotations"][REF]): str(one["digest"]) for one in index["manifests"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{layout} is no OCI layout: {type(error).__name__}: {error}") from None
    if version != "1.0.0":
        raise ModelError(f"{layout} is a layout of version {version}; this reads 1.0.0")
    return found


def verify(layout: Path, name: str = MODELPACK, digest: str | None = None) -> list[Layer]:
    """Check a manifest of a layout and all it names, byte for byte; returns its layers.

    `digest` is what the manifest must have where it is known from elsewhere. Raises ModelError for another digest, a
    blob that is missing or changed, a path that leads out of the folder, and keys that the specifications do not have.
    """
    known = digests(layout)
    if name not in known:
        raise ModelError(f"{layout} has no {name}; it has {', '.join(known) or 'nothing'}")
    if digest is not None and known[name] != digest:
        raise ModelError(f"{layout} holds {known[name]}, not {digest}; fetch the model by its digest again")
    manifest = parsed(checked(layout, known[name]))
    config = json.loads(checked(layout, manifest["config"]["digest"], int(manifest["config"]["size"])))
    layers = layers_of(manifest)
    for layer in layers:
        checked_file(layout, layer)
    if fault := config_fault(manifest, config, layers):
        raise ModelError(f"{layout}: {fault}")
    return layers


def parsed(raw: bytes) -> dict[str, Any]:
    """A manifest; raises ModelError for what is none."""
    try:
        found = json.loads(raw)
        kind = found["mediaType"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"that is no manifest: {type(error).__name__}: {error}") from None
    if kind != MANIFEST:
        raise ModelError(f"that is a {kind}, not a manifest of one model ({MANIFEST})")
    return dict(found)


def layers_of(manifest: dict[str, Any]) -> list[Layer]:
    """The layers of a manifest; raises ModelError for a path that leads out of a folder, and for unknown types."""
    found = []
    for one in manifest["layers"]:
        path = str(one.get("annotations", {}).get(FILEPATH, ""))
        pure = PurePosixPath(path)
        if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path:
            raise ModelError(f"layer {one['digest']} wants to be {path!r}, which is no place inside of a package")
        if one["mediaType"] not in (WEIGHT, SETTINGS, DOCUMENT, TAR):
            raise ModelError(f"{path} is of type {one['mediaType']}, which is not read here")
        found.append(Layer(path, str(one["digest"]), int(one["size"]), str(one["mediaType"])))
    return found


def config_fault(manifest: dict[str, Any], config: dict[str, Any], layers: list[Layer]) -> str:
    """What a manifest's configuration says wrongly; empty where it is as its specification wants it."""
    told = [layer.digest for layer in layers]
    if manifest["config"]["mediaType"] == IMAGE_CONFIG:
        return "" if config["rootfs"]["diff_ids"] == told else "the image's diff_ids are not its layers"
    if manifest.get("artifactType") != ARTIFACT or manifest["config"]["mediaType"] != CONFIG:
        return f"its types are {manifest.get('artifactType')} and {manifest['config']['mediaType']}: no ModelPack"
    if config.keys() != {"descriptor", "config", "modelfs"}:
        return f"the configuration has {', '.join(sorted(config))}, not config, descriptor and modelfs"
    more = (set(config["descriptor"]) - DESCRIPTOR_KEYS) | (set(config["config"]) - CONFIG_KEYS)
    if more:
        return f"the configuration has {', '.join(sorted(more))}, which ModelPack does not know"
    if config["modelfs"] != {"type": "layers", "diffIds": told}:
        return "modelfs does not list the layers"
    return ""


def unpack(layout: Path, out: Path, name: str = MODELPACK, digest: str | None = None) -> None:
    """Write the package that a layout holds into `out`, verified; raises ModelError as `verify` does."""
    for layer in verify(layout, name, digest):
        place = out / layer.path
        place.parent.mkdir(parents=True, exist_ok=True)
        with blob(layout, layer.digest).open("rb") as stream, place.open("wb") as file:
            copy_layer(layer, stream, file)


def copy_layer(layer: Layer, stream: BinaryIO, file: BinaryIO) -> None:
    """Write the file that a layer holds; raises ModelError where a layer of an image holds another file."""
    if layer.kind != TAR:
        for chunk in chunks(stream):
            file.write(chunk)
        return
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        names = archive.getnames()
        inside = archive.extractfile(names[0]) if names == [layer.path] else None
        if inside is None:
            raise ModelError(f"the layer of {layer.path} holds {', '.join(names) or 'nothing'}; fetch the model again")
        for chunk in chunks(inside):
            file.write(chunk)


def chunks(stream: Any) -> Iterator[bytes]:
    """What a stream gives, piece by piece."""
    while chunk := stream.read(CHUNK):
        yield chunk


def checked(layout: Path, digest: str, size: int | None = None) -> bytes:
    """A small blob's bytes; raises ModelError where it is missing or not what its name says."""
    place = blob(layout, digest)
    if not place.is_file():
        raise ModelError(f"{layout} lacks the blob {digest}; fetch the model again")
    raw = place.read_bytes()
    if digest_of(raw) != digest or (size is not None and len(raw) != size):
        raise ModelError(f"blob {digest} of {layout} was changed; fetch the model again")
    return raw


def checked_file(layout: Path, layer: Layer) -> None:
    """Check a layer's blob; raises ModelError where it is missing or was changed."""
    place = blob(layout, layer.digest)
    if not place.is_file():
        raise ModelError(f"{layout} lacks {layer.path} ({layer.digest}); fetch the model again")
    with place.open("rb") as stream:
        found = "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
    if found != layer.digest or place.stat().st_size != layer.size:
        raise ModelError(f"{layer.path} was changed: its blob in {layout} is {found}; fetch the model again")


def digest_of(raw: bytes) -> str:
    """The digest of bytes as OCI writes it."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def _put(out: Path, raw: bytes) -> str:
    digest = digest_of(raw)
    blob(out, digest).write_bytes(raw)
    return digest


def _put_file(package: Path, path: str, out: Path) -> Layer:
    with (package / path).open("rb") as stream:
        return _put_stream(out, path, kind_of(path), chunks(stream))


def _put_tar(package: Path, path: str, out: Path) -> Layer:
    return _put_stream(out, path, TAR, _tarred(package / path, path))


def _put_stream(out: Path, path: str, kind: str, pieces: Iterator[bytes]) -> Layer:
    """Write a blob whose digest is known only when it is written."""
    partial, digest, size = out / ".partial", hashlib.sha256(), 0
    with partial.open("wb") as file:
        for piece in pieces:
            digest.update(piece)
            size += file.write(piece)
    name = f"sha256:{digest.hexdigest()}"
    partial.replace(blob(out, name))
    return Layer(path, name, size, kind)


def _tarred(file: Path, path: str) -> Iterator[bytes]:
    """A tar archive of one file that anybody may read."""
    head = tarfile.TarInfo(path)
    head.size, head.mode, head.mtime = file.stat().st_size, 0o444, 0
    yield head.tobuf(tarfile.GNU_FORMAT)
    with file.open("rb") as stream:
        yield from chunks(stream)
    yield b"\0" * (-head.size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)


def kind_of(path: str) -> str:
    """The media type of a file of a package.

    >>> kind_of("model/model.gguf").split(".")[-3:], kind_of("README.md").split(".")[3]
    (['weight', 'v1', 'raw'], 'doc')
    """
    suffix = PurePosixPath(path).suffix
    if path.startswith("model/") and suffix in WEIGHTS:
        return WEIGHT
    return DOCUMENT if suffix == ".md" else SETTINGS


def _model_config(contents: Contents, profile: ModelProfile, layers: list[Layer]) -> dict[str, Any]:
    recipe = contents.recipe
    return {
        "descriptor": {
            "name": contents.model,
            "title": f"{contents.model}, {contents.variant}",
            "version": contents.results_digest[:12],
            "revision": contents.source_sha256,
        },
        "config": {
            "architecture": profile.architecture,
            "format": contents.backend,
            "paramSize": f"{profile.parameters / 1e6:.0f}M",
            "precision": recipe.precision,
            "quantization": recipe.method,
        },
        "modelfs": {"type": "layers", "diffIds": [layer.digest for layer in layers]},
    }


def _image_config(layers: list[Layer]) -> dict[str, Any]:
    """Data runs on no processor; runtimes want one named."""
    rootfs = {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
    return {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}


def _manifest(out: Path, layers: list[Layer], kind: str, config: dict[str, Any], artifact: str) -> str:
    raw = json.dumps(config, sort_keys=True).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        **({"artifactType": artifact} if artifact else {}),
        "config": {"mediaType": kind, "digest": _put(out, raw), "size": len(raw)},
        "layers": [layer.descriptor() for layer in layers],
    }
    return _put(out, json.dumps(manifest, sort_keys=True).encode())
