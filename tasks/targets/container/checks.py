"""What validators say of a build context: files against the record they were written from, and against schemas."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tasks.packaging.manifest import CONTENTS, Contents, verify_manifest
from tasks.records.bundles import Check
from tasks.targets import bundled
from tasks.targets.container import dockerfile, pins, sbom, services
from tasks.targets.container.services import PORT

INSIDE, APP, REQUIREMENTS, SBOM, COMPOSE = "package", "app", "requirements", "sbom.cdx.json", "compose.yaml"
NEVER = ("torch", "nncf", "olive-ai", "mlflow", "optimum-intel")  # what optimizes and keeps, and does not serve


def checks(bundle: Path) -> tuple[Check, ...]:
    """All of them, in the order of the files' weight."""
    return (
        bundled.check(
            "Dockerfile: stages, user, port, health, sources",
            lambda: dockerfile.fault(_text(bundle / "Dockerfile"), PORT),
        ),
        dockerfile.hadolint(bundle / "Dockerfile"),
        bundled.check("pins of all packages", lambda: pins_fault(bundle)),
        bundled.check("compose file: rights and limits", lambda: services.compose_fault(_compose(bundle))),
        by_schema("compose file by Compose's schema", lambda: services.schema_fault(_compose(bundle))),
        bundled.check("quadlet: rights and limits", lambda: _quadlet_fault(bundle)),
        bundled.check("list of what is inside", lambda: sbom.fault(json.loads(_text(bundle / SBOM)), _inside(bundle))),
        by_schema("CycloneDX's schema", lambda: sbom.schema_fault(_text(bundle / SBOM))),
        bundled.check("package inside", lambda: _package_fault(bundle / INSIDE)),
        bundled.manifest_check(bundle),
    )


def by_schema(name: str, fault: Callable[[], str]) -> Check:
    """A check by a schema that comes with a library; not measured where that is not installed."""
    try:
        return bundled.check(name, fault)
    except ImportError as error:
        return Check(name=name, state="not-measured", reason=f"{error.name} is not installed, which has the schema")


def pins_of(bundle: Path) -> dict[str, list[pins.Pin]]:
    """Pins as a context has them, by the names of their files; raises ValueError for a line that is none."""
    return {file.stem: pins.read(_text(file)) for file in sorted((bundle / REQUIREMENTS).glob("*.txt"))}


def inside(found: dict[str, list[pins.Pin]], framework: str) -> list[pins.Pin]:
    """Pins of what production of one framework holds."""
    own = found["llama"] if framework == "gguf" else []
    return sorted([*found["serve"], *found[framework], *own], key=lambda one: one.name)


def pins_fault(bundle: Path) -> str:
    """What is not pinned, or has no place in an image: digests stand at all packages or at none."""
    found = pins_of(bundle)
    if absent := [name for name in ("serve", "compile", "llama", *pins.FRAMEWORKS) if name not in found]:
        return f"{REQUIREMENTS}/{absent[0]}.txt is missing"
    for name, pinned in found.items():
        if heavy := [one.line for one in pinned if one.name in NEVER]:
            return f"{REQUIREMENTS}/{name}.txt has {heavy[0]}, which no server needs"
    every = [one for pinned in found.values() for one in pinned]
    bare = [one.line for one in every if not one.hashes]
    return f"{bare[0]} has no digest, others have" if bare and len(bare) < len(every) else ""


def _inside(bundle: Path) -> list[pins.Pin]:
    return inside(pins_of(bundle), Contents.read(bundle / INSIDE / CONTENTS).backend)


def _compose(bundle: Path) -> Any:
    try:
        return yaml.safe_load(_text(bundle / COMPOSE))
    except yaml.YAMLError as error:
        raise ValueError(f"{COMPOSE} is no YAML: {error}") from error


def _quadlet_fault(bundle: Path) -> str:
    units = sorted(bundle.glob("*.container"))
    if len(units) != 1:
        return f"there are {len(units)} units, not one"
    return services.quadlet_fault(_text(units[0]), _compose(bundle)["services"]["server"]["image"])


def _package_fault(package: Path) -> str:
    verify_manifest(package)
    return ""


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")
