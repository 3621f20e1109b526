"""Code: what each stage and each backend runs, with digests, so that a change redoes what it touches and nothing else.

DVC stages depend on these lists instead of on file after file: the import graph is always right, a hand-kept list is
not, and dvc.lock stays small enough to be read in a moment. A list of a backend ends with the pins of its packages.
A comment or a docstring is no change.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path

from tasks.backends.pins import LOCK, pins
from tasks.backends.table import MODULES, backend, module_of
from tasks.errors import ConfigError
from tasks.packaging.closure import PACKAGE, files, graph_of, source_of
from tasks.params.load import load_params
from tasks.records.base import write_text
from tasks.run.disk import fresh_folder, replace_folder
from tasks.run.meaning import meaning
from tasks.run.stage import main_of
from tasks.run.workspace import Workspace

STAGES = (
    "detect", "fetch", "data", "reference", "assess", "convert", "tune", "evaluate", "ceiling", "benchmark",
    "place", "recommend", "gate", "package", "report", "track", "bundle",
)  # fmt: skip


def listings(root: Path, backends: Iterable[str] = (), targets: Iterable[str] = ()) -> dict[Path, str]:
    """Lines `sha256  file` per stage and backend, of a backend `pin  package` too; keys are paths in artifacts/code.

    `backends` are those that are used; of one outside of the table whose package is not under `root`, its own file.
    `targets` are modules of kinds of targets outside of their table, whose own files `assess` and `bundle` run.
    """
    modules = MODULES | {name: module_of(name) for name in backends}
    ours = {name: module for name, module in modules.items() if (root / source_of(root, module)).is_file()}
    graph = graph_of(*ours.values())
    wanted = {Path(f"{stage}.txt"): f"{PACKAGE}.{stage}" for stage in STAGES}
    wanted |= {Path("backends") / f"{name}.txt": module for name, module in ours.items()}
    found = {place: _listing(root, files(graph, module, root)) for place, module in wanted.items()}
    for name in ours:
        packages_of = pins(backend(name).versions(), root / LOCK)
        pinned = "".join(f"{line.replace(' ', '')}  {package}\n" for package, line in packages_of.items())
        found[Path("backends") / f"{name}.txt"] += pinned
    for module in targets:
        own = source_of(root, module)
        for stage in ("assess", "bundle"):
            found[Path(f"{stage}.txt")] += _listing(root, [own if (root / own).is_file() else _origin(module)])
    away = {name: module for name, module in modules.items() if name not in ours}
    return found | {
        Path("backends") / f"{name}.txt": _listing(root, [_origin(module)]) for name, module in away.items()
    }


def _origin(module: str) -> Path:
    """The file of a module that is installed elsewhere."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(f"{module!r} is no module with a file of its own; name the file's module")
    return Path(spec.origin)


def _listing(root: Path, sources: list[Path]) -> str:
    return "".join(f"{hashlib.sha256(meaning(root / file)).hexdigest()}  {file}\n" for file in sources)


def write() -> None:
    """Write artifacts/code; raises ConfigError outside of the project's root."""
    root = Path.cwd()
    if not (root / PACKAGE).is_dir():
        raise ConfigError(f"{root} has no folder {PACKAGE}; run from the project's root")
    partial = fresh_folder(Workspace().code)
    params = load_params()
    used = [variant.backend for variant in params.variants.values()]
    targets = [one.kind for one in params.targets.values() if one.kind and "." in one.kind]
    for place, text in listings(root, used, targets).items():
        write_text(partial / place, text)
    replace_folder(partial, Workspace().code)


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    return main_of("tasks.code", __doc__, write, argv)


if __name__ == "__main__":
    raise SystemExit(main())
