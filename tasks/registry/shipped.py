"""The sources that a logged model brings along: what its class imports, and nothing else of this project."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from tasks.backends.table import module_of
from tasks.kinds.table import place_of
from tasks.packaging.closure import PACKAGE, files, graph_of
from tasks.packaging.manifest import Contents

ROOT = Path(__file__).parents[2]
MODEL = "tasks.registry.pyfunc"


def sources(contents: Contents) -> list[tuple[Path, Path]]:
    """Files that a logged package runs: where each is, and where it goes under the shipped folder.

    Packages' own files are among them. A kind or backend outside of this project goes with its one file.
    """
    graph = graph_of()
    modules = (MODEL, place_of(contents.kind, "predicting"), module_of(contents.backend))
    own = [module for module in modules if module.split(".")[0] == PACKAGE]
    found = {ROOT / file: file for module in own for file in files(graph, module, ROOT)}
    found |= {_file(module): Path(*module.split(".")).with_suffix(".py") for module in modules if module not in own}
    packages = {
        place.parents[up] / "__init__.py": file.parents[up] / "__init__.py"
        for place, file in found.items()
        for up in range(len(file.parents) - 1)
    }
    return sorted((found | {place: file for place, file in packages.items() if place.is_file()}).items())


def copy_sources(contents: Contents, out: Path) -> list[Path]:
    """Copy them under `out` in the folders that imports need; returns the folders of the top packages."""
    for place, file in sources(contents):
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(place, out / file)
    return sorted(out.iterdir())


def _file(module: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"{module} is not there any more", name=module)
    return Path(found.origin)
