"""Describe a classifier (S3): its graph, and whether it can be trained."""

from __future__ import annotations

from pathlib import Path

from tasks.kinds.arrays import describing
from tasks.kinds.arrays.describing import FILE
from tasks.kinds.image_classifier import network, training
from tasks.records.model import ModelProfile


def describe(folder: Path) -> ModelProfile:
    """Describe model.onnx and the training pictures beside it."""
    rows = training.count(folder)
    told = {"training_rows": rows, "untrainable": network.unreadable(folder / FILE) if rows else ""}
    return describing.describe(folder).model_copy(update=told)
