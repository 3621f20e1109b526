"""A small convolutional network for scikit-learn's digits: trained here, by a seed, in half a minute."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.kinds.image_classifier.pictures import Preprocessing

NAME = "digits"
SEED, EPOCHS, BATCH = 17, 30, 64
TRAINED = 897  # the first of the 1,797 pictures; the others are for data
PREPROCESSING = Preprocessing(mode="L", size=(8, 8), interpolation="bilinear", scale=16.0, mean=(0.0,), std=(1.0,))
CLASSES = tuple("0123456789")


def pictures() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All pictures as the network takes them, (1797, 1, 8, 8), and their classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return np.stack([PREPROCESSING.of_pixels(one) for one in found.images]), found.target.astype(np.int64)


def network() -> Any:
    """The network, untrained: three convolutions with batch norms, 60 thousand weights."""
    import torch
    from torch import nn

    torch.manual_seed(SEED)

    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *block(1, 32, 1), *block(32, 64, 2), *block(64, 64, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )


def trained() -> Any:
    """Train it on the first half of the pictures, each moved by up to a pixel; the same each time on a machine."""
    import torch

    torch.set_num_threads(1)  # two take three times as long for pictures so small
    torch.manual_seed(SEED)
    model, dice = network(), np.random.default_rng(SEED)
    images, labels = (one[:TRAINED] for one in pictures())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    steps = EPOCHS * -(-TRAINED // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        order = dice.permutation(TRAINED)
        for start in range(0, TRAINED, BATCH):
            chosen = order[start : start + BATCH]
            moved = np.stack([np.roll(images[i], tuple(dice.integers(-1, 2, 2)), axis=(1, 2)) for i in chosen])
            loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(moved)), torch.from_numpy(labels[chosen]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()
