"""The source files that a module runs, by the import graph: what a stage depends on, and what a logged model ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.kinds.table import KINDS

PACKAGE = "tasks"


def of_kinds(*questions: str) -> tuple[str, ...]:
    """Modules that answer a stage's questions, one for each kind of model."""
    return tuple(f"{package}.{question}" for package in KINDS.values() for question in questions)


# Modules that are started or opened by their name, where no import statement shows it.
BY_NAME = {
    "tasks.run.child": ("tasks.run.worker",),
    "tasks.backends.onnx.language": ("tasks.backends.onnx.olive_data",),
    "tasks.serve.model.process": ("tasks.serve.model.worker",),
    "tasks.serve.model.mapping": ("tasks.serve.model.mapping_worker",),
    "tasks.promotion.slots": ("tasks.serve", "tasks.serve.__main__"),
    "tasks.kinds.demands": of_kinds("metrics"),
    "tasks.reporting.findings": of_kinds("metrics"),
    "tasks.packaging.card": of_kinds("metrics"),
    "tasks.search.settings": of_kinds("metrics"),
    "tasks.fetch": of_kinds("expanding"),
    "tasks.data": of_kinds("preparing"),
    "tasks.kinds.making": (
        *of_kinds("preparing", "checking"),
        "tasks.kinds.causal_lm.transforming",
        "tasks.kinds.image_classifier.transforming",
    ),
    "tasks.convert": ("tasks.kinds.making",),
    "tasks.kinds.answering": of_kinds("scoring"),
    "tasks.reference": ("tasks.kinds.answering",),
    "tasks.kinds.evaluating": ("tasks.kinds.answering",),
    "tasks.kinds.measuring": of_kinds("workload"),
    "tasks.measure.passes": ("tasks.kinds.measuring",),
    "tasks.place": tuple(f"tasks.backends.{name}.placing" for name in ("gguf", "mlx", "onnx", "openvino")),
    "tasks.package": of_kinds("packing"),
    "tasks.packaging.evidence": of_kinds("packing"),
    "tasks.assess": of_kinds("describing"),
    "tasks.targets.table": tuple(
        f"tasks.targets.{name}"
        for name in (
            "served",
            "ios",
            "android",
            "cross_platform",
            "embedded",
            "triton",
            "ovms",
            "container",
            "cluster",
        )
    ),
    "tasks.targets.cluster.kustomize": ("tasks.targets.cluster.registry",),
    "tasks.targets.cross_platform": ("tasks.targets.onnx_run",),
    "tasks.promotion.holder": ("tasks.promotion",),
    "tasks.registry.logged_model": of_kinds("predicting"),
    "tasks.registry.shipped": ("tasks.registry.pyfunc",),
    "tasks.ceiling": ("tasks.measure.roofline",),
}


def graph_of(*modules: str) -> Any:
    """Who imports whom in this package and in those of `modules`; imports for type checkers alone are never run."""
    import grimp

    packages = {module.split(".")[0] for module in modules} - {PACKAGE}
    return grimp.build_graph(PACKAGE, *sorted(packages), cache_dir=None, exclude_type_checking_imports=True)


def files(graph: Any, module: str, root: Path) -> list[Path]:
    """Source files that `module` runs, relative to `root`: its imports, what they start by name, data beside them."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        new = ({name} | graph.find_upstream_modules(name)) - found
        found |= new
        waiting += [other for one in new for other in BY_NAME.get(one, ())]
    sources = {source_of(root, name) for name in found}
    folders = {source.parent for source in sources} - {Path(PACKAGE)}
    data = {p.relative_to(root) for f in folders for p in (root / f).iterdir() if p.is_file() and p.suffix != ".py"}
    return sorted(sources | {path for path in data if path.suffix != ".pyc"})


def source_of(root: Path, module: str) -> Path:
    """The file of a module, relative to `root`."""
    path = Path(*module.split("."))
    file = path.with_suffix(".py")
    return file if (root / file).is_file() else path / "__init__.py"
