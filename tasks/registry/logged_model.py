"""A package as an MLflow model: what is logged of it, what it takes and gives, what has to be installed to load it."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.backends.table import backend
from tasks.kinds.base import Signature
from tasks.kinds.table import predicting
from tasks.packaging import how_to_run
from tasks.packaging.manifest import Contents
from tasks.packaging.opening import packed
from tasks.registry.shipped import copy_sources
from tasks.registry.tags import MANIFEST

LOCKFILE = Path("requirements.lock")
PACKAGE = "artifacts/package"  # inside a logged model
NEEDED = ("mlflow", "numpy", "pandas", "pydantic", "pyyaml", "tokenizers", "jinja2")


def log_model(run_id: str, package: Path, contents: Contents, tags: Mapping[str, str]) -> str:
    """Log a package as a pyfunc under a run and return its model id; the caller is inside `reaching`."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_id=run_id), warnings.catch_warnings():
        # An example would be answered while logging, which loads the whole model; the signature is given instead.
        warnings.filterwarnings("ignore", ".*(input example|[Tt]ype hint)", UserWarning)
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc.py")),
            code_paths=[str(one) for one in copy_sources(contents, Path(folder))],  # so that it loads anywhere
            artifacts={"package": str(package)},
            model_config={"manifest_sha256": tags[MANIFEST]},
            pip_requirements=requirements(contents),
            signature=signature(predicting(contents.kind).signature(package, packed(contents))),
            tags=dict(tags),
        )
    return str(info.model_id)


def signature(told: Signature) -> Any:
    """The kind's signature in MLflow's form."""
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec

    kinds = {int: "long", float: "double", str: "string"}
    given = [ParamSpec(name, kinds[type(value)], value) for name, value in told.parameters.items()]
    return ModelSignature(
        inputs=_schema(told.inputs),
        outputs=_schema(told.outputs) if told.outputs else None,
        params=ParamSchema(given) if given else None,
    )


def _schema(columns: Mapping[str, str]) -> Any:
    """Columns of text, or tensors, by name; a single column of what is given back needs none."""
    import numpy as np
    from mlflow.types import ColSpec, Schema, TensorSpec

    if all(kind == "string" for kind in columns.values()):
        return Schema([ColSpec("string", name) for name in columns])
    parts = {name: kind.rstrip("]").split("[") for name, kind in columns.items()}
    return Schema(
        [
            TensorSpec(np.dtype(kind), tuple(int(size) for size in sizes.split(",")), name)
            for name, (kind, sizes) in parts.items()
        ]
    )


def requirements(contents: Contents, lock: Path = LOCKFILE) -> list[str]:
    """List what has to be installed to load a logged package, as pinned by the lock file."""
    wheels = set(backend(contents.backend).TRAITS.wheels)  # chosen by markers in the lock
    wanted = {*NEEDED, *how_to_run.packages(contents.backend, contents.family)} | wheels
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.is_file() else []
    pinned = [line.strip() for line in lines if re.split(r"[=<>~!; \[]", line, maxsplit=1)[0] in wanted]
    absent = wanted - {re.split(r"[=<>~!; \[]", line, maxsplit=1)[0] for line in pinned}
    return pinned + sorted(absent - wheels)
