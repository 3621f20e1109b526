"""Parameters, typed once: strict, frozen, unknown keys refused.

The user's files are params.yaml, beside it variants.yaml, to which searches add, and params.local.yaml, which is not in
git. What the stages read is the effective file that a run composes of them and of what its command says
(tasks/params/settings.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from tasks.errors import ConfigError
from tasks.params.pipeline import Params, Variant
from tasks.params.renamed import REMOVED, RENAMED

PARAMS = Path("params.yaml")
LOCAL = Path("params.local.yaml")  # of one checkout; its values win over those of params.yaml
FOUND = Path("variants.yaml")  # variants that searches found: tasks/params/chosen.py writes it
EFFECTIVE = Path("artifacts") / "params.yaml"  # what the last run composed, its profile resolved
TOLD = Path("artifacts") / "told.json"  # what the effective file was made of
# Blocks a profile may change: the stages that read them depend on `profiles` in dvc.yaml (tested there).
OF_PROFILES = ("data", "tune", "evaluate", "benchmark", "gate")
# Blocks that no stage reads (tasks/params/whole.py has them), so that a change to their types redoes no stage.
KINDS = "kinds"  # what differs for a kind of model: tasks/params/settings.py puts it in place
OF_NO_STAGE = ("serve", "promotion", "monitor", "search", KINDS)

P = TypeVar("P", bound=Params)


def load_params(folder: Path = Path()) -> Params:
    """Read and check what the stages are told; raises ConfigError naming the key, the reason and what is allowed."""
    path = folder / EFFECTIVE
    return parse(read(path), str(path)) if path.exists() else parse(read_user(folder), str(folder / PARAMS))


def in_force(folder: Path = Path()) -> Path:
    """The file that says what `artifacts/` holds: the effective one, or params.yaml where nothing was composed."""
    return folder / EFFECTIVE if (folder / EFFECTIVE).exists() else folder / PARAMS


def user_files(folder: Path = Path()) -> tuple[Path, ...]:
    """The user's files, the one that wins last; that of found variants where it has any."""
    found = folder / FOUND
    has_any = found.exists() and any(read(found).values())
    return (folder / PARAMS, *((found,) if has_any else ()), *((folder / LOCAL,) if (folder / LOCAL).exists() else ()))


def read_user(folder: Path = Path()) -> dict[str, Any]:
    """The user's files merged, block into block, unchecked; raises ConfigError when params.yaml is not there."""
    merged: dict[str, Any] = {}
    for path in user_files(folder):
        merged = merge(merged, read(path))
    return merged


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Values over others, block into block."""
    both = {key: merge(below[key], above[key]) for key in above if _blocks(below.get(key), above[key])}
    return {**below, **above, **both}


def _blocks(*values: Any) -> bool:
    return all(isinstance(value, dict) for value in values)


def read(path: Path) -> dict[str, Any]:
    """The file as it is written, unchecked; raises ConfigError when there is none or it is no mapping."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; run from the project's root") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold a mapping of blocks, found {type(raw).__name__}")
    return raw


def parse(raw: Mapping[str, Any], where: str = "params") -> Params:
    """Check a mapping as what the stages are told; the profile's changes are applied first."""
    return parse_as(Params, raw, where)


def parse_as(kind: type[P], raw: Mapping[str, Any], where: str) -> P:
    """Check a mapping as the blocks of `kind`; blocks that `kind` does not have, and no stage reads, are left out."""
    own = {key: value for key, value in raw.items() if key in kind.model_fields or key not in OF_NO_STAGE}
    merged = _overlay(own, where)
    try:
        return kind.model_validate(_lists_to_tuples_ok(merged, kind))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(kind, where, merged, e) for e in error.errors())) from error


def changed(params: P, block: str, values: Mapping[str, Any]) -> P:
    """The parameters with some values of one block from a command line; raises ConfigError for one not allowed."""
    own = getattr(params, block).model_dump() | dict(values)
    return parse_as(type(params), params.model_dump(exclude={"profiles"}) | {block: own}, "command line")


def _overlay(raw: dict[str, Any], where: str) -> dict[str, Any]:
    profile = raw.get("profile", "full")
    changes = (raw.get("profiles") or {}).get(profile) or {}
    merged = dict(raw)
    for block, values in changes.items():
        if block not in OF_PROFILES or not isinstance(values, dict):
            raise ConfigError(
                f"{where}: profiles.{profile}.{block} must name a block that a profile may change, and its keys; "
                f"{_nearest(block, OF_PROFILES)}"
            )
        merged[block] = {**(raw.get(block) or {}), **values}
    return merged


def _lists_to_tuples_ok(raw: dict[str, Any], kind: type[Params]) -> dict[str, Any]:
    """A block written as an empty mapping (`gate:`) reads as None in YAML; take it as all defaults."""
    blocks = {key for key, field in kind.model_fields.items() if field.default is not None}
    return {key: ({} if value is None and key in blocks else value) for key, value in raw.items()}


def _explain(kind: type[Params], where: str, raw: Mapping[str, Any], error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    dotted = ".".join(path)
    if error["type"] == "extra_forbidden" and dotted in RENAMED:
        return f"{where}: {dotted} is now called {RENAMED[dotted]}"
    if error["type"] == "extra_forbidden" and dotted in REMOVED:
        return f"{where}: {dotted} is no more: {REMOVED[dotted]}; take it out"
    if error["type"] == "extra_forbidden":
        allowed = _allowed(kind, path[:-1])
        return f"{where}: unknown parameter {dotted!r}; {_nearest(path[-1], allowed)}"
    if error["type"] == "missing":
        return f"{where}: {dotted!r} is missing; add it ({error['msg']})"
    return f"{where}: {dotted!r} = {error.get('input')!r}: {error['msg']}"


def _allowed(kind: type[Params], path: list[str]) -> list[str]:
    """Keys allowed in the block at `path`."""
    model: Any = kind
    for part in path:
        model = _inside(model, part)
    return [*getattr(model, "model_fields", {}), *(OF_NO_STAGE if model is kind else ())]


def _inside(model: Any, part: str) -> Any:
    """Type of what stands under `part`: of a block's field, or of a mapping's values; without its `| None`."""
    fields = getattr(model, "model_fields", {})
    found = fields[part].annotation if part in fields else next(iter(get_args(model)[1:]), None)
    kinds = get_args(found)
    return next(one for one in kinds if one is not NoneType) if NoneType in kinds else found


def _nearest(key: str, allowed: Any) -> str:
    close = difflib.get_close_matches(key, list(allowed), n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(sorted(allowed))}"


def known_variant(params: Params, name: str) -> Variant:
    """The variant called `name`; raises ConfigError with the nearest name."""
    if name not in params.variants:
        raise ConfigError(f"unknown variant {name!r}; {_nearest(name, params.variants)}")
    return params.variants[name]
