"""Settings of one run: params.yaml, params.local.yaml and what the command says, composed. None of them is written.

`tasks.compose` writes the result, with the profile resolved, into the effective file that the stages read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.errors import ConfigError
from tasks.params.load import EFFECTIVE, KINDS, OF_NO_STAGE, PARAMS, TOLD, merge, parse, read, read_user, user_files
from tasks.params.pipeline import Params
from tasks.params.whole import parse_whole
from tasks.records.base import Record, write_text

OF_KIND = ("data", "gate", "recommend", "variants", "profiles")  # blocks of which each kind of model has its own
NAMES = {"model": "fetch.model", "target": "target.device", "profile": "profile"}
HEADER = """\
# What the stages of a run read. `compose` writes this file anew for each run: change params.yaml, not this.
# Made of {files}, the profile resolved{told}
"""


class Told(Record):
    """Settings that a run was told, and by which files; lies beside the effective file."""

    files: tuple[str, ...]  # later ones win
    changes: dict[str, Any] = {}  # dotted key -> value, by the command; they win over the files
    lines: tuple[str, ...] = ()  # the changes in words


@dataclass(frozen=True)
class Composed:
    """Parameters of a run as the stages will read them, and what they were made of."""

    params: Params
    told: Told

    @property
    def text(self) -> str:
        """Content of the effective file."""
        said = "; the command said:\n" + "\n".join(f"#   {line}" for line in self.told.lines)
        head = HEADER.format(files=" and ".join(self.told.files), told=said if self.told.lines else ".")
        values = self.params.model_dump(mode="json", exclude={"profiles"})
        return head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)

    def write(self, folder: Path = Path()) -> None:
        """Write the effective file and what it was made of."""
        write_text(folder / EFFECTIVE, self.text)
        self.told.write(folder / TOLD)


@dataclass(frozen=True)
class KindDefaults:
    """What a kind of model says of its data, gates and variants, in place of params.yaml, which is about the first."""

    name: str
    file: Path | None  # None: params.yaml itself is about this kind


OfKind = Callable[[str, str], KindDefaults]  # of fetch.model and fetch.kind


def first_kind(model: str, kind: str) -> KindDefaults:
    """No defaults beside those of params.yaml."""
    return KindDefaults("", None)


def compose(changes: Mapping[str, Any], folder: Path = Path(), of_kind: OfKind = first_kind) -> Composed:
    """Put the files of a checkout and `changes` together; raises ConfigError for a bad key or value."""
    files = tuple(path.name for path in user_files(folder))
    raw, lines = read_user(folder), []
    defaults = of_kind(_told(raw, changes, "model", "sample"), _told(raw, changes, "kind", "auto"))
    raw = for_kind(raw, defaults)
    if defaults.file is not None:
        files = (*files, f"what {defaults.name} brings")
    for key, value in changes.items():
        block = key.partition(".")[0]
        if block in OF_NO_STAGE:
            raise ConfigError(f"setting {key!r}: no stage reads {block!r}; write it into {files[-1]}")
        raw, before = changed(raw, key, value)
        if before is None or before[0] != value:
            lines.append(f"{key} = {flow(value)}" + (f" (otherwise {flow(before[0])})" if before else ""))
    parse_whole(raw, " and ".join(files))
    return Composed(parse(raw), Told(files=files, changes=dict(changes), lines=tuple(lines)))


def _told(raw: Mapping[str, Any], changes: Mapping[str, Any], key: str, otherwise: str) -> str:
    return str(changes.get(f"fetch.{key}") or (raw.get("fetch") or {}).get(key) or otherwise)


def for_kind(raw: Mapping[str, Any], defaults: KindDefaults) -> dict[str, Any]:
    """The user's values for one kind of model: its own data, gates and variants, and over them `kinds.NAME`."""
    kept = {key: value for key, value in raw.items() if key != KINDS}
    if defaults.file is not None:
        kept = {key: value for key, value in kept.items() if key not in OF_KIND} | read(defaults.file)
    own = (raw.get(KINDS) or {}).get(defaults.name) or {}
    other = sorted(set(own) - set(OF_KIND))
    if other:
        raise ConfigError(
            f"{KINDS}.{defaults.name}.{other[0]}: a kind of model has its own {', '.join(OF_KIND)}; "
            "the rest holds for all"
        )
    return merge(kept, own)


def composed_before(folder: Path = Path(), of_kind: OfKind = first_kind) -> Composed | None:
    """The files as they are now with what the last run was told; None when there was no run."""
    if not (folder / TOLD).exists():
        return None
    return compose(Told.read(folder / TOLD).changes, folder, of_kind)


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


def changed(raw: Mapping[str, Any], key: str, value: Any) -> tuple[dict[str, Any], tuple[Any] | None]:
    """Copy nested values with one dotted key set; returns the value before too, in a tuple, None where there was none.

    >>> changed({"a": {"b": 1}}, "a.b", 2)
    ({'a': {'b': 2}}, (1,))
    >>> changed({"a": None}, "a.c", [3])
    ({'a': {'c': [3]}}, None)
    """
    made = dict(raw)
    place, (*blocks, name) = made, key.split(".")
    for depth, part in enumerate(blocks, start=1):
        inside = place.get(part)
        if inside is not None and not isinstance(inside, dict):
            raise ConfigError(f"{key!r}: {'.'.join(blocks[:depth])!r} is a value, not a block; set that itself")
        place[part] = place = dict(inside or {})
    before = (place[name],) if name in place else None
    if before and isinstance(before[0], dict) and before[0] and not isinstance(value, dict):
        raise ConfigError(f"{key!r} is a block; set its keys one by one, e.g. -S {key}.{next(iter(before[0]))}=...")
    place[name] = value
    return made, before


def flow(value: Any) -> str:
    """The value as YAML in one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=10**6, sort_keys=False).strip()[1:-1]
