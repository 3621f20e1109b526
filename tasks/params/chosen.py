"""variants.yaml: what searches found, as lines that a run and DVC read beside those of params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tasks.params.load import FOUND, KINDS
from tasks.params.pipeline import Variant
from tasks.records.base import write_text

HEAD = """\
# Variants that `make search` found, beside those of params.yaml: yours to change, to keep or to take out.
# Those of other kinds of model than language models stand under `kinds`.
"""


def add(name: str, every: Mapping[str, Variant], kind: str = "", folder: Path = Path()) -> None:
    """Write a variant's line, and that of what it is made from; `kind`: empty for that of params.yaml."""
    raw = read(folder)
    own = raw.setdefault(KINDS, {}).setdefault(kind, {}).setdefault("variants", {}) if kind else raw["variants"]
    base = every[name].source.removeprefix("variants/")
    own |= {one: every[one].model_dump(mode="json", exclude_defaults=True) for one in (base, name) if one in every}
    write_text(folder / FOUND, HEAD + text(raw))


def read(folder: Path = Path()) -> dict[str, Any]:
    """What stands in the file; an empty block of variants where there is none."""
    path = folder / FOUND
    raw = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    return {"variants": {}} | {key: value for key, value in (raw or {}).items() if value}


def text(raw: Mapping[str, Any], indent: str = "") -> str:
    """As YAML, a variant a line."""
    lines = []
    for key, value in raw.items():
        if key == "variants" and value:
            lines.append(
                f"{indent}variants:\n" + "".join(f"{indent}  {name}: {_line(one)}\n" for name, one in value.items())
            )
        elif isinstance(value, Mapping) and value:
            lines.append(f"{indent}{key}:\n{text(value, indent + '  ')}")
        else:
            lines.append(f"{indent}{key}: {{}}\n")
    return "".join(lines)


def _line(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(values), default_flow_style=True, width=10**6, sort_keys=False).strip()
