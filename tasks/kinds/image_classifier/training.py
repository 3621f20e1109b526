"""Train a classifier a little more: after channels were taken out, with 8 bits in the way, or as it is, to compare.

The network learns the classes of the training pictures where they are known, and in any case what the unchanged model
says of them (Hinton 2015, distillation at temperature 1). All that is random comes from one seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import Feeds
from tasks.errors import UnsupportedError
from tasks.kinds.arrays.rows import load, save

FILE = "training.npz"  # beside model.onnx: "pictures" as the model takes them, and "classes" where they are known
SEED, BATCH = 17, 64
STEP, SMALL_STEP = 2e-3, 5e-4  # largest rate of learning; the small one where rounding stands in the way
ROUND_TO = 8  # channels that stay are a multiple of this, as vector instructions want them
SMALL = 4096  # numbers in a picture
JUDGED = 256  # training pictures that tell which channels matter


@dataclass(frozen=True)
class Lessons:
    """Training pictures, (n, channels, height, width), and their classes, (n,), where they are known."""

    pictures: NDArray[np.float32]
    classes: NDArray[np.int64] | None = None

    def write(self, folder: Path) -> None:
        """Put them beside the model."""
        known = {} if self.classes is None else {"classes": self.classes}
        save({"pictures": self.pictures, **known}, folder / FILE)


def lessons(folder: Path) -> Lessons:
    """The training pictures beside the model; raises UnsupportedError where there are none."""
    if not (folder / FILE).is_file():
        raise UnsupportedError(f"the model came without training pictures ({FILE} beside model.onnx)")
    held = load(folder / FILE)
    return Lessons(held["pictures"].astype(np.float32), held.get("classes"))


def count(folder: Path) -> int:
    """How many training pictures came with the model."""
    return len(lessons(folder).pictures) if (folder / FILE).is_file() else 0


def fewer_channels(network: Any, share: float, taught: Lessons) -> dict[str, int]:
    """Take channels out of every layer but the last, in place; returns weights before and after.

    Which go: those whose loss changes least without them, to the first order (Molchanov 2019), judged together with all
    layers that depend on them (torch-pruning's dependency graph).
    """
    import torch
    import torch_pruning

    weights = sum(one.numel() for one in network.parameters())
    layers = [one for one in network.modules() if isinstance(one, torch.nn.Conv2d | torch.nn.Linear)]
    importance = torch_pruning.importance.GroupTaylorImportance()
    pruner = torch_pruning.pruner.BasePruner(
        network, torch.from_numpy(taught.pictures[:1]), importance=importance, pruning_ratio=1 - share,
        ignored_layers=layers[-1:], round_to=ROUND_TO,
    )  # fmt: skip
    some = np.random.default_rng(SEED).permutation(len(taught.pictures))[:JUDGED]
    given = network(torch.from_numpy(taught.pictures[some]))
    # Beside itself a network loses nothing, whose slope is 0: without classes its own likeliest ones stand in.
    classes = given.argmax(1) if taught.classes is None else torch.from_numpy(taught.classes[some])
    torch.nn.functional.cross_entropy(given, classes).backward()
    pruner.step()
    network.zero_grad()
    return {"before": weights, "after": sum(one.numel() for one in network.parameters())}


def rounded(network: Any, rows: Sequence[Feeds]) -> Any:
    """The network with rounding to 8 bits before each layer, whose ranges are then trained too (NNCF)."""
    import nncf
    import torch
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    if not rows:
        raise UnsupportedError("ranges are found on calibration arrays, which were not given")
    kept = [torch.from_numpy(np.asarray(next(iter(row.values())), np.float32)) for row in rows]
    return nncf.quantize(
        network, nncf.Dataset(kept), subset_size=len(kept),
        # Weights in seven bits: processors without VNNI add products in 16 bits, which overflow with eight.
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
    )  # fmt: skip


def threads_for(taught: Lessons, threads: int) -> int:
    """One for small pictures: there starting threads, and waiting for them, takes longer than the work."""
    return max(1, threads) if taught.pictures[0].size >= SMALL else 1


def train(network: Any, teacher: Any, taught: Lessons, epochs: int, largest_step: float) -> None:
    """Train in place for some passes over the pictures, each moved by up to a sixteenth; leaves it to be evaluated."""
    import torch

    torch.manual_seed(SEED)
    dice = np.random.default_rng(SEED)
    number = len(taught.pictures)
    most = max(1, min(taught.pictures.shape[2:]) // 16)
    optimizer = torch.optim.AdamW(network.parameters(), lr=largest_step)
    total = epochs * -(-number // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=largest_step, total_steps=total)
    network.train()
    for epoch in range(epochs):
        order, losses = dice.permutation(number), []
        for start in range(0, number, BATCH):
            some = order[start : start + BATCH]
            moves = dice.integers(-most, most + 1, (len(some), 2))
            moved = np.stack([
                np.roll(taught.pictures[i], tuple(by), axis=(1, 2)) for i, by in zip(some, moves, strict=True)
            ])  # fmt: skip
            loss = _loss(network, teacher, taught, some, moved)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        print(f"pass {epoch + 1} of {epochs}: loss {np.mean(losses):.4f}", flush=True)
    network.eval()


def _loss(
    network: Any, teacher: Any, taught: Lessons, numbers: NDArray[np.int64], pictures: NDArray[np.float32]
) -> Any:
    import torch
    from torch.nn import functional

    shown = torch.from_numpy(np.ascontiguousarray(pictures))
    with torch.no_grad():
        wanted = teacher(shown).log_softmax(1)
    given = network(shown)
    loss = functional.kl_div(given.log_softmax(1), wanted, log_target=True, reduction="batchmean")
    if taught.classes is not None:
        loss = loss + functional.cross_entropy(given, torch.from_numpy(taught.classes[numbers]))
    return loss
