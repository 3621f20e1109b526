"""The list of what is inside an image, as CycloneDX 1.6 in JSON: packages by their pins, and the model."""

from __future__ import annotations

import importlib
import json
import uuid
from collections.abc import Sequence
from typing import Any

from tasks.packaging.manifest import Contents
from tasks.targets.container.pins import Pin

VERSION = "1.6"
NAMESPACE = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562's for object identifiers


def sbom(name: str, contents: Contents, pinned: Sequence[Pin], package_sha256: str) -> dict[str, Any]:
    """The document; the same content has the same serial number, and no time is told."""
    ref = f"model:{contents.variant}"
    model = {
        "type": "machine-learning-model",
        "bom-ref": ref,
        "name": contents.model,
        "version": contents.results_digest[:12],
        "description": f"{contents.variant}; digest of the manifest of its package",
        "hashes": [{"alg": "SHA-256", "content": package_sha256}],
    }
    ordered = sorted(pinned, key=lambda one: one.name)
    told = json.dumps([name, package_sha256, [one.line for one in ordered]])
    application = {"type": "container", "bom-ref": f"image:{name}", "name": name, "version": model["version"]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, told)}",
        "version": 1,
        "metadata": {"component": application},
        "components": [model, *map(_library, ordered)],
        "dependencies": [
            {"ref": f"image:{name}", "dependsOn": sorted([ref, *(purl(one) for one in ordered)])},
            *({"ref": one} for one in sorted([ref, *(purl(one) for one in ordered)])),
        ],
    }


def purl(one: Pin) -> str:
    """A package's address of its own.

    >>> purl(Pin("click", "8.5.1"))
    'pkg:pypi/click@8.5.1'
    """
    return f"pkg:pypi/{one.name}@{one.version}"


def _library(one: Pin) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "library", "bom-ref": purl(one), "name": one.name, "version": one.version, "purl": purl(one)
    }  # fmt: skip
    # Of several files, one for each platform, nobody can tell which was installed.
    return made | ({"hashes": [{"alg": "SHA-256", "content": one.hashes[0]}]} if len(one.hashes) == 1 else {})


def fault(document: dict[str, Any], pinned: Sequence[Pin]) -> str:
    """What is wrong with it, or what it lists that is not installed, and the other way about."""
    head = (document.get("bomFormat"), document.get("specVersion"))
    if head != ("CycloneDX", VERSION):
        return f"it says {head[0]} {head[1]}, not CycloneDX {VERSION}"
    components = document["components"]
    refs = [one["bom-ref"] for one in components]
    if len(set(refs)) != len(refs):
        return "two components have one bom-ref"
    listed = {one["purl"] for one in components if one["type"] == "library"}
    wanted = {purl(one) for one in pinned}
    if apart := sorted(listed ^ wanted):
        return f"{apart[0]} is {'listed and not installed' if apart[0] in listed else 'installed and not listed'}"
    models = [one for one in components if one["type"] == "machine-learning-model" and one.get("hashes")]
    return "" if len(models) == 1 else f"it lists {len(models)} models with their digest, not one"


def schema_fault(text: str) -> str:
    """What CycloneDX's own schema says; raises ImportError where its library is not installed."""
    schema, validation = (importlib.import_module(f"cyclonedx.{name}") for name in ("schema", "validation.json"))
    found = validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(text)
    return "" if found is None else str(found)[:300]
