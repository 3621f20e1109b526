"""Which data a run's figures and conversions come from, as MLflow's data sets: name, source, digest."""

from __future__ import annotations

from typing import Any

from tasks.kinds.base import DataCard
from tasks.registry.results import Results

DIGITS = 36  # of a digest, as many as MLflow keeps
CONTEXT = "mlflow.data.context"


def log_datasets(client: Any, run: str, results: Results) -> None:
    """Tell of evaluation and calibration data as inputs of a run; raises DataError without the card of the data."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Dataset, DatasetInput, InputTag

    card, params = DataCard.read(results.workspace.data_card), results.params.data
    used = {
        "evaluation": (card.source, card.evaluation_sha256, card.evaluation_rows),
        "calibration": (params.calibration_source or card.source, card.calibration_sha256, card.calibration_rows),
    }
    inputs = []
    for name, (source, digest, rows) in used.items():
        origin = CodeDatasetSource({"source": source, "rows": rows, "seed": params.seed, "sha256": digest})
        made = MetaDataset(origin, name=f"{name}: {source}", digest=digest[:DIGITS])
        inputs.append(DatasetInput(Dataset(**made.to_dict()), tags=[InputTag(CONTEXT, name)]))
    client.log_inputs(run, datasets=inputs)
