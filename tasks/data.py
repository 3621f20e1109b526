"""Data: what is scored, timed, probed and calibrated with, checked before anything uses it."""

from __future__ import annotations

from pathlib import Path

from tasks.gates.data_checks import check_data, require_clean
from tasks.kinds.base import DataCard, Prepared
from tasks.kinds.table import preparing
from tasks.params.load import load_params
from tasks.params.pipeline import Params
from tasks.run.disk import fresh_folder, replace_folder
from tasks.run.stage import main_of
from tasks.run.workspace import Workspace
from tasks.sources.files import Source


def data(params: Params, model: Path, out: Path) -> DataCard:
    """Write the data folder `out`; raises DataError when a check fails."""
    kind = Source.read(model / Workspace().source.name).kind
    partial = fresh_folder(out)
    prepared = preparing(kind).prepare(params.data, params.convert, model, partial)
    card = prepared.card.model_copy(update={"checks": check(prepared, params)})
    card.write(partial / Workspace().data_card.name)
    replace_folder(partial, out)
    return card


def check(prepared: Prepared, params: Params) -> tuple[str, ...]:
    """Run the data suite over all rows; raises DataError listing what failed, returns a line per check."""
    import pandas as pd

    least = (prepared.card.evaluation_rows, params.data.calibration_rows)
    result = check_data(pd.DataFrame(prepared.rows), prepared.sizes, prepared.unit, least)
    require_clean(result)
    return tuple(f"{line.name}: {line.observed}" for line in result.lines)


def work() -> None:
    """Prepare the data of the workspace's model."""
    workspace = Workspace()
    print(data(load_params(), workspace.model, workspace.data).words)


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    return main_of("tasks.data", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
