"""Code: the source files each stage and each backend runs, with their digests, so that a change redoes what it touches.

DVC stages depend on these lists instead of on file after file: the import graph is always right, a hand-kept list is
not, and dvc.lock stays small enough to be read in a moment.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.backends.base import MODULES
from tasks.disk import fresh_folder, replace_folder
from tasks.errors import ConfigError
from tasks.records import write_text
from tasks.stage import run_stage

PACKAGE = "tasks"
STAGES = (
    "detect", "fetch", "data", "reference", "assess", "convert", "tune", "evaluate", "ceiling", "benchmark",
    "recommend", "gate", "package", "report", "track",
)  # fmt: skip
# Modules that are started or opened by their name, where no import statement shows it.
BY_NAME = {
    "tasks.measure.child": ("tasks.measure.worker",),
    "tasks.backends.onnx": ("tasks.backends.olive_data",),
    "tasks.serve.process": ("tasks.serve.worker",),
    "tasks.promotion.slots": ("tasks.serve", "tasks.serve.__main__"),
    "tasks.promotion.controller": ("tasks.promotion.staging",),
}


def listings(root: Path) -> dict[Path, str]:
    """Per stage and backend, `sha256  file` a line, over the sources under `root`; keys are paths in artifacts/code."""
    import grimp

    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    wanted = {Path(f"{stage}.txt"): f"{PACKAGE}.{stage}" for stage in STAGES}
    wanted |= {Path("backends") / f"{name}.txt": module for name, module in MODULES.items()}
    return {place: _listing(root, files(graph, module, root)) for place, module in wanted.items()}


def files(graph: Any, module: str, root: Path) -> list[Path]:
    """Source files that `module` runs, relative to `root`: its imports, what they start by name, data beside them."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        new = ({name} | graph.find_upstream_modules(name)) - found
        found |= new
        waiting += [other for one in new for other in BY_NAME.get(one, ())]
    sources = {_source(root, name) for name in found}
    folders = {source.parent for source in sources} - {Path(PACKAGE)}
    data = {p.relative_to(root) for f in folders for p in (root / f).iterdir() if p.is_file() and p.suffix != ".py"}
    return sorted(sources | {path for path in data if path.suffix != ".pyc"})


def _source(root: Path, module: str) -> Path:
    path = Path(*module.split("."))
    file = path.with_suffix(".py")
    return file if (root / file).is_file() else path / "__init__.py"


def _listing(root: Path, sources: list[Path]) -> str:
    return "".join(f"{hashlib.sha256((root / file).read_bytes()).hexdigest()}  {file}\n" for file in sources)


def parser() -> argparse.ArgumentParser:
    """Arguments of the stage."""
    return argparse.ArgumentParser(prog="python -m tasks.code", description=__doc__)


def main(argv: list[str] | None = None) -> int:
    """Write artifacts/code."""
    parser().parse_args(argv)

    def work() -> None:
        root = Path.cwd()
        if not (root / PACKAGE).is_dir():
            raise ConfigError(f"{root} has no folder {PACKAGE}; run from the project's root")
        partial = fresh_folder(paths.CODE)
        for place, text in listings(root).items():
            write_text(partial / place, text)
        replace_folder(partial, paths.CODE)

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
