"""What bundles of all targets share: options, templates, the word about what is inside, and a manifest of all files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from typing import Any
from xml.parsers.expat import ExpatError

from tasks.errors import ConfigError, EdgewrightError
from tasks.packaging.manifest import NAME, sha256, verify_manifest, write_manifest
from tasks.records.base import write_text
from tasks.records.bundles import Check
from tasks.targets.base import Shipped

TEMPLATES = Path(__file__).with_name("templates")
ABOUT = "edgewright.json"  # what is inside, for machines
TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
)  # fmt: skip


def options(target: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """A target's options over the defaults of its kind; raises ConfigError for one unknown or of another type."""
    for name, value in given.items():
        where = f"targets.{target}.options.{name}"
        if name not in known:
            raise ConfigError(f"{where} is not known; allowed: {', '.join(known) or 'none'}")
        if known[name] is not None and not isinstance(value, type(known[name])):
            raise ConfigError(f"{where}: {value!r} is no {type(known[name]).__name__}, as {known[name]!r} is")
    return {**known, **given}


def from_templates(kind: str, out: Path, words: Mapping[str, str]) -> list[Path]:
    """Write the files of templates/KIND with $WORDS filled in, in their places; raises KeyError for one not given."""
    made = []
    for file in sorted((TEMPLATES / kind).rglob("*")):
        if file.is_file():
            place = out / file.relative_to(TEMPLATES / kind)
            write_text(place, Template(file.read_text(encoding="utf-8")).substitute(words))
            made.append(place)
    return made


def sign_off(shipped: Shipped, target: str, out: Path) -> None:
    """Write what is inside, with the verdict it was made by, and a manifest of all files; the last step of a build."""
    contents = shipped.contents
    told = {
        "target": target,
        "model": contents.model,
        "variant": contents.variant,
        "verdict": contents.verdict,
        "bundled_anyway": shipped.anyway,
        "package_manifest_sha256": sha256(shipped.package / NAME),
        "results_digest": contents.results_digest,
        "source_sha256": contents.source_sha256,
    }
    write_text(out / ABOUT, json.dumps(told, indent=2) + "\n")
    write_manifest(out)


def manifest_check(bundle: Path) -> Check:
    """Every file as it was when the bundle was made."""

    def fault() -> str:
        verify_manifest(bundle)
        return ""

    return check("manifest of all files", fault)


def check(name: str, fault: Callable[[], str]) -> Check:
    """A check by what is wrong, in words, empty where nothing is; what cannot be read is wrong, too."""
    try:
        found = fault()
    except (EdgewrightError, OSError, ValueError, KeyError, TypeError, AttributeError, ExpatError) as error:
        found = f"it cannot be read: {type(error).__name__}: {error}"
    return Check(name=name, state="failed" if found else "ok", reason=found or "as it should be")


def tokenizer_files(folder: Path) -> list[str]:
    """Names of the tokenizer's files that are there."""
    return [name for name in TOKENIZER if (folder / name).is_file()]


def minified(file: Path) -> None:
    """Write a JSON file without white space that nobody reads."""
    raw = json.loads(file.read_text(encoding="utf-8"))
    write_text(file, json.dumps(raw, ensure_ascii=False, separators=(",", ":")))
