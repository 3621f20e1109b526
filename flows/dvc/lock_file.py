"""dvc.lock: read and written in C instead of pure Python, and put back when a kill left half of one.

DVC (seen in 3.67) rewrites the whole file after every stage with a parser and an emitter that keep comments, of which
a lock file has none. With fifty stages that is most of the second that each stage costs beside its own work. What is
read and what is written stay the same (tested against DVC's own), but for where a scalar past 70 columns is folded.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, TextIO

import yaml

NAME = "dvc.lock"
LAST_GOOD = Path("artifacts") / ".dvc.lock.last"
IN_USE = Path(".dvc/tmp/rwlock")


def speed_up() -> None:
    """Let DVC read and write its lock file by `parse` and `dump`; every other file stays with DVC's own functions.

    A DVC that has no such functions keeps its own pace.
    """
    from dvc.utils import strictyaml
    from dvc.utils.serialize import _yaml

    names = ("parse_yaml", "parse_yaml_for_update", "_dump")
    if not all(hasattr(_yaml, name) for name in names) or getattr(_yaml._dump, "quick", False):
        return
    slow_read, slow_update, slow_write = (getattr(_yaml, name) for name in names)

    def read(text: str, path: Any, typ: str = "safe") -> Any:
        return parse(text, path) if typ == "safe" and Path(path).name == NAME else slow_read(text, path, typ)

    def update(text: str, path: Any) -> Any:
        return parse(text, path) if Path(path).name == NAME else slow_update(text, path)

    def write(data: Any, stream: TextIO) -> Any:
        name = getattr(stream, "name", "")
        return dump(data, stream) if Path(str(name)).name == NAME else slow_write(data, stream)

    write.quick = True  # type: ignore[attr-defined]
    _yaml.parse_yaml = strictyaml.parse_yaml = read
    _yaml.parse_yaml_for_update = update
    _yaml._dump = write


def parse(text: str, path: Any) -> Any:
    """The file's content; raises what DVC raises when it is no YAML."""
    from dvc.utils.serialize import YAMLFileCorruptedError

    loader, _ = _yaml_1_2()
    try:
        return yaml.load(text, Loader=loader) or {}  # noqa: S506 - a safe loader with fewer types
    except yaml.YAMLError as error:
        raise YAMLFileCorruptedError(path) from error


def dump(data: Any, stream: TextIO) -> None:
    """Write as DVC does: block style, keys in their order, nothing for None."""
    _, dumper = _yaml_1_2()
    yaml.dump(data, stream, Dumper=dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=80)


@functools.cache
def _yaml_1_2() -> tuple[Any, Any]:
    """libyaml's loader and dumper with the plain scalars of YAML 1.2, which DVC writes: `yes` is a string there."""
    from ruamel.yaml.resolver import implicit_resolvers

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, Any] = {}

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, Any] = {}

        def ignore_aliases(self, data: Any) -> bool:
            return True

    for versions, tag, pattern, first in implicit_resolvers:
        if (1, 2) in versions:
            Loader.add_implicit_resolver(tag, pattern, first)
            Dumper.add_implicit_resolver(tag, pattern, first)
    Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", ""))
    Dumper.add_representer(float, lambda dumper, x: dumper.represent_scalar("tag:yaml.org,2002:float", _float(x)))
    Dumper.add_representer(OrderedDict, lambda dumper, mapping: dumper.represent_dict(mapping.items()))
    return Loader, Dumper


def _float(value: float) -> str:
    if value != value:
        return ".nan"
    if value in (float("inf"), float("-inf")):
        return ".inf" if value > 0 else "-.inf"
    return repr(value).lower()


def whole(path: Path) -> bool:
    """Whether the file is there as DVC left it: a command and a path for each file of every stage."""
    from dvc.utils.serialize import YAMLFileCorruptedError

    try:
        content = parse(path.read_text(encoding="utf-8"), path)
    except (YAMLFileCorruptedError, UnicodeDecodeError):
        return False
    return isinstance(content, dict) and all(_whole_stage(stage) for stage in (content.get("stages") or {}).values())


def _whole_stage(stage: Any) -> bool:
    if not isinstance(stage, dict) or "cmd" not in stage:
        return False
    files = [*(stage.get("deps") or []), *(stage.get("outs") or [])]
    return all(isinstance(file, dict) and "path" in file for file in files)


def mend(root: Path) -> bool:
    """Put back the last whole file if a killed run left half of one; True when it did. Call it under DVC's lock.

    DVC rewrites the file in place, so a kill in that moment leaves it truncated. What the copy does not know yet is
    found again in DVC's run cache.
    """
    path, copy = root / NAME, root / LAST_GOOD
    if not path.exists() or whole(path):
        return False
    if copy.exists():
        _replace(copy, path)
    else:
        path.unlink()
    return True


def drop_broken_list(root: Path) -> bool:
    """Remove DVC's list of paths that processes read and write where a killed one left half of it; True when it did.

    DVC rewrites it in place and then refuses all work until somebody removes it. Call it under DVC's lock.
    """
    path = root / IN_USE
    for _ in range(2):  # one that is being written now is whole a moment later
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        except ValueError:
            time.sleep(0.3)
        else:
            return False
    path.unlink(missing_ok=True)
    return True


def remember(root: Path) -> None:
    """Keep a copy of a whole file beside the artifacts, for `mend`; call it under DVC's lock."""
    (root / LAST_GOOD).parent.mkdir(exist_ok=True)
    if (root / NAME).exists():
        _replace(root / NAME, root / LAST_GOOD)


def _replace(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    shutil.copyfile(source, temporary)
    temporary.replace(target)
