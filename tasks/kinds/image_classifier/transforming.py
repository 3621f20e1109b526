"""Changes of a classifier before it is converted: fewer channels, more training, rounding learnt in training."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from tasks.kinds.arrays.describing import FILE
from tasks.kinds.base import Calibration
from tasks.kinds.image_classifier import network, rounded, training
from tasks.records.plan import Recipe
from tasks.records.terms import TRAINED_ROUNDING


def transform(model: Path, recipe: Recipe, calibration: Calibration, out: Path, threads: int) -> None:
    """Write model.onnx with the recipe's share of channels, trained for its epochs, with rounding in the graph or not.

    Raises UnsupportedError for a model without training pictures, or with operators that are not trained.
    """
    taught = training.lessons(model)
    torch.set_num_threads(training.threads_for(taught, threads))
    torch.manual_seed(training.SEED)
    teacher = network.read(model / FILE)
    student = copy.deepcopy(teacher)
    if recipe.channels < 1:
        weights = training.fewer_channels(student, recipe.channels, taught)
        print(f"{weights['after']:,} of {weights['before']:,} weights stay", flush=True)
    rounds = recipe.method == TRAINED_ROUNDING
    if recipe.epochs and rounds and recipe.channels < 1:  # first what was taken out is made good
        training.train(student, teacher, taught, recipe.epochs, training.STEP)
    changed = training.rounded(student, calibration.arrays) if rounds else student
    if recipe.epochs:
        training.train(changed, teacher, taught, recipe.epochs, training.SMALL_STEP if rounds else training.STEP)
    out.mkdir(parents=True)
    network.write(changed, network.example_of(taught.pictures), (teacher.input, teacher.output), out / FILE)
    if rounds:
        rounded.to_integers(out / FILE, out / FILE)
