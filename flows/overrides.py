"""Settings of the command line written into params.yaml, the way `dvc exp run -S` does it.

Only the value's own characters are replaced, so comments and columns stay as the user laid them out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tasks.config import PARAMS, Params, parse
from tasks.errors import ConfigError
from tasks.hardware.profiles import named
from tasks.records import write_text

NAMES = {"model": "fetch.model", "target": "target.device", "profile": "profile"}


def collect(
    model: str | None = None, target: str | None = None, profile: str | None = None, settings: Iterable[str] = ()
) -> dict[str, Any]:
    """The common settings and `key=value` pairs as one mapping from dotted key to value; later ones win."""
    common = {"model": model, "target": target, "profile": profile}
    changes: dict[str, Any] = {NAMES[name]: value for name, value in common.items() if value}
    return {**changes, **dict(split(setting) for setting in settings)}


def split(setting: str) -> tuple[str, Any]:
    """Read `key=value`; the value is YAML, as with `dvc exp run -S`.

    >>> split("benchmark.rounds=3")
    ('benchmark.rounds', 3)
    >>> split("assess.frameworks=[openvino]")
    ('assess.frameworks', ['openvino'])
    """
    key, found, text = setting.partition("=")
    key = key.strip().removeprefix(f"{PARAMS.name}:")
    if not found or not all(key.split(".")):
        raise ConfigError(f"setting {setting!r} must be KEY=VALUE with a dotted key, e.g. -S benchmark.rounds=3")
    try:
        return key, yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"setting {setting!r}: {text!r} is not a YAML value: {' '.join(str(error).split())}"
        ) from None


def apply(changes: Mapping[str, Any], path: Path = PARAMS) -> list[str]:
    """Write `changes` into params.yaml and say a line per change.

    The result is checked first: a bad key or value raises ConfigError and leaves the file as it was.
    """
    if not changes:
        return []
    before = _read(path)
    text, lines = before, []
    for key, value in changes.items():
        old, text = edit(text, key, value)
        if old != _flow(value):
            lines.append(f"{path.name}: {key} = {_flow(value)}" + (f" (was {old})" if old else ""))
    params = parse(_load(text, path), str(path))
    if params.target.device != "host":
        named(params.target.device)
    if not lines:
        return []
    write_text(path, text)
    return [*lines, f"undo: git checkout {path.name}", *_registry_note(changes, params)]


def edit(text: str, key: str, value: Any) -> tuple[str, str]:
    """Set one dotted key in YAML text; returns how the old value was written (nothing if new) and the new text.

    >>> edit("a:\\n  b: 1  # one\\n", "a.b", 20)
    ('1', 'a:\\n  b: 20 # one\\n')
    >>> edit("a: {b: 1}\\n", "a.c", None)
    ('', 'a: {b: 1, c: null}\\n')
    """
    path = key.split(".")
    node: Any = _compose(text)
    for depth, part in enumerate(path):
        if not isinstance(node, yaml.MappingNode):
            if node.value not in ("", "null", "~"):
                raise ConfigError(f"{key!r}: {'.'.join(path[:depth])!r} is a value, not a block; set that itself")
            return "", _replace(text, node, _nest(path[depth:], value))
        child = next((value for name, value in node.value if name.value == part), None)
        if child is None:
            return "", _insert(text, node, path[depth:], value)
        node = child
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        raise ConfigError(f"{key!r} is a block; set its keys one by one, e.g. -S {key}.{node.value[0][0].value}=...")
    return text[node.start_mark.index : node.end_mark.index], _replace(text, node, value)


def _replace(text: str, node: Any, value: Any) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    new = _flow(value) if start < end else f" {_flow(value)}"
    rest = text[end:]
    comment = re.match(r" +(?=#)", rest)
    if comment:  # keep the comment's column where there is room
        space = max(1, len(comment.group()) + (end - start) - len(new))
        rest = " " * space + rest[comment.end() :]
    return text[:start] + new + rest


def _insert(text: str, block: Any, path: list[str], value: Any) -> str:
    """A key that is not there yet: last in a `{...}`, first in a block; `parse` decides whether it may be."""
    entry = f"{path[0]}: {_flow(_nest(path[1:], value))}"
    if block.flow_style:
        place = block.end_mark.index - 1
        return text[:place] + (", " if block.value else "") + entry + text[place:]
    place = block.start_mark.index
    return text[:place] + f"{entry}\n{' ' * block.start_mark.column}" + text[place:]


def _nest(path: list[str], value: Any) -> Any:
    for part in reversed(path):
        value = {part: value}
    return value


def _flow(value: Any) -> str:
    """The value as YAML in one line, safe inside `{...}` too."""
    return yaml.safe_dump([value], default_flow_style=True, width=10**6, sort_keys=False).strip()[1:-1]


def _compose(text: str) -> Any:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader) or yaml.MappingNode("", [])
    except yaml.YAMLError as error:
        raise ConfigError(f"params.yaml is not valid YAML: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; run from the project's root") from None


def _load(text: str, path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of blocks, found {type(content).__name__}")
    return content


def _registry_note(changes: Mapping[str, Any], params: Params) -> list[str]:
    if NAMES["model"] not in changes:
        return []
    return [f"a winner will be registered as {params.track.model_name!r} (another name: -S track.model_name=NAME)"]
