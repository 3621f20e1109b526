"""Fetch: bring the model into artifacts/model as an unquantized checkpoint with a known origin."""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks.kinds.table import expanding, recognised
from tasks.params.load import load_params
from tasks.params.pipeline import Fetch
from tasks.run.disk import fresh_folder, replace_folder
from tasks.run.stage import main_of
from tasks.run.workspace import Workspace
from tasks.sources.files import Source, hash_files

WEIGHTS = (".safetensors", ".onnx", ".data", ".bin", ".npz")  # of a checkpoint, whatever its kind


def fetch(params: Fetch, out: Path) -> Source:
    """Write the model named by `params` into `out` (replaced only when complete) and say where it came from."""
    kind = recognised(params.model) if params.kind == "auto" else params.kind
    partial = fresh_folder(out)
    try:
        origin = expanding(kind).expand(params, partial)
        weights = sorted(file for file in partial.iterdir() if file.suffix in WEIGHTS)
        record = Source(
            name=origin.name, source=params.model, origin=origin.origin, sha256=hash_files(weights), kind=kind,
            stored=origin.stored,
        )  # fmt: skip
        record.write(partial / Workspace().source.name)
        replace_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def work() -> None:
    """Fetch what params.yaml names into the workspace."""
    record = fetch(load_params().fetch, Workspace().model)
    print(f"{record.name}: {record.origin}")


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    return main_of("tasks.fetch", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
