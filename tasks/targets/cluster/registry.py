"""A model to and from a registry, by plain OCI distribution over HTTP: `push` a layout, `pull` a package by its digest.

    python -m tasks.targets.cluster.registry push LAYOUT registry.example/edgewright-model
    python -m tasks.targets.cluster.registry pull registry.example/edgewright-model@sha256:... FOLDER

A registry on loopback is asked by HTTP, every other one by HTTPS unless `--plain-http` is given. None is given a login:
put the layout there by a tool that has one (`skopeo copy oci:LAYOUT:modelpack docker://...`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from tasks.errors import ConfigError, ModelError, ResourceError
from tasks.packaging.manifest import verify_manifest
from tasks.run.stage import run_stage
from tasks.targets.cluster import oci

TIMEOUT_S = 60.0
LARGEST_MANIFEST = 4 * 2**20  # bytes, as registries take them
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Registry:
    """A repository of a registry, and how it is reached."""

    host: str
    repository: str
    plain: bool = False  # HTTP also where the host is not this machine

    @property
    def base(self) -> str:
        """The address of its API."""
        name = self.host.rsplit(":", 1)[0] if not self.host.endswith("]") else self.host
        scheme = "http" if self.plain or name in LOOPBACK else "https"
        return f"{scheme}://{self.host}/v2/{self.repository}"

    def ask(self, method: str, place: str, data: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """An answer; raises ResourceError where there is none, or one that says no."""
        url = urllib.parse.urljoin(f"{self.base}/", place)
        request = urllib.request.Request(url, data=data, headers=dict(headers or {}), method=method)  # noqa: S310
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310 - http or https, from `base`
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(500).decode(errors="replace").strip()
            raise ResourceError(f"{self.host}: {method} {url}: {error.code} {said or error.reason}") from None
        except (urllib.error.URLError, TimeoutError, OSError) as error:
            raise ResourceError(f"no registry answers at {self.host}: {error}") from None

    def has(self, digest: str) -> bool:
        """Whether a blob is there."""
        try:
            with self.ask("HEAD", f"blobs/{digest}"):
                return True
        except ResourceError as error:
            if ": 404 " in str(error):
                return False
            raise


def reference(text: str, plain: bool = False) -> tuple[Registry, str]:
    """A registry and a digest (or nothing) from host/repository[@sha256:...]; raises ConfigError for another form.

    >>> registry, digest = reference("127.0.0.1:5000/team/model@sha256:" + "a" * 64)
    >>> registry.base, digest[:9]
    ('http://127.0.0.1:5000/v2/team/model', 'sha256:aa')
    """
    place, _, digest = text.partition("@")
    host, _, repository = place.partition("/")
    if not host or not repository or ":" in repository:
        raise ConfigError(f"{text!r} is no reference; it is HOST/REPOSITORY, and @sha256:DIGEST to pull: no tags")
    return Registry(host, repository, plain), digest


def push(layout: Path, registry: Registry, name: str = oci.MODELPACK) -> str:
    """Put one manifest of a layout, verified, and its blobs into a registry; returns its digest.

    Blobs that are there are not sent again. Raises ModelError for a layout that is broken, ResourceError for a registry
    that does not take it, or says that it took something else.
    """
    layers = oci.verify(layout, name)
    digest = oci.digests(layout)[name]
    raw = oci.checked(layout, digest)
    for one in dict.fromkeys([*(layer.digest for layer in layers), oci.parsed(raw)["config"]["digest"]]):
        if not registry.has(one):
            _upload(registry, oci.blob(layout, one), one)
    with registry.ask("PUT", f"manifests/{digest}", raw, {"Content-Type": oci.MANIFEST}) as answer:
        kept = answer.headers.get("Docker-Content-Digest", digest)
    if kept != digest:
        raise ResourceError(f"{registry.host} keeps {kept}, not {digest}")
    return digest


def _upload(registry: Registry, file: Path, digest: str) -> None:
    with registry.ask("POST", "blobs/uploads/", b"") as answer:
        place = str(answer.headers["Location"])
    place += ("&" if "?" in place else "?") + urllib.parse.urlencode({"digest": digest})
    size = {"Content-Length": str(file.stat().st_size), "Content-Type": "application/octet-stream"}
    with file.open("rb") as stream, registry.ask("PUT", place, stream, size):
        pass


def pull(registry: Registry, digest: str, out: Path) -> None:
    """Write the package with this digest into `out`: manifest, layers and the package's own manifest verified.

    Raises ModelError for bytes that are not those the digest names, and ResourceError for what the registry lacks.
    """
    oci.blob(out, digest)  # refuses what is no digest
    with registry.ask("GET", f"manifests/{digest}", headers={"Accept": oci.MANIFEST}) as answer:
        raw = answer.read(LARGEST_MANIFEST)
    if oci.digest_of(raw) != digest:
        raise ModelError(
            f"{registry.host} gave {oci.digest_of(raw)} for {digest}: it is not the model that was asked for"
        )
    manifest = oci.parsed(raw)
    for layer in oci.layers_of(manifest):
        _download(registry, layer, out)
    verify_manifest(out)


def _download(registry: Registry, layer: oci.Layer, out: Path) -> None:
    place, found, size = out / layer.path, hashlib.sha256(), 0
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=place.parent) as kept, registry.ask("GET", f"blobs/{layer.digest}") as answer:
        for chunk in oci.chunks(answer):
            found.update(chunk)
            size += kept.write(chunk)
            if size > layer.size:
                break
        if size != layer.size or f"sha256:{found.hexdigest()}" != layer.digest:
            raise ModelError(f"{layer.path} came from {registry.host} with other bytes than {layer.digest}")
        kept.seek(0)
        with place.open("wb") as file:
            oci.copy_layer(layer, cast(BinaryIO, kept), file)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m tasks.targets.cluster.registry", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--plain-http", action="store_true", help="HTTP also to another machine")
    actions = made.add_subparsers(dest="action", required=True)
    up = actions.add_parser("push", help="put a layout into a registry")
    up.add_argument("layout", type=Path)
    up.add_argument("reference", help="HOST/REPOSITORY")
    up.add_argument("--form", choices=(oci.MODELPACK, oci.IMAGE), default=oci.MODELPACK, help="(modelpack)")
    down = actions.add_parser("pull", help="fetch a package by its digest")
    down.add_argument("reference", help="HOST/REPOSITORY@sha256:DIGEST")
    down.add_argument("folder", type=Path)
    return made


def main(argv: list[str] | None = None) -> int:
    """Push or pull; exit code 2 for what is refused."""
    arguments = parser().parse_args(argv)

    def work() -> None:
        registry, digest = reference(arguments.reference, arguments.plain_http)
        if arguments.action == "push":
            digest = push(arguments.layout, registry, arguments.form)
        else:
            pull(registry, digest, arguments.folder)
        print(json.dumps({"reference": f"{registry.host}/{registry.repository}@{digest}"}))

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
