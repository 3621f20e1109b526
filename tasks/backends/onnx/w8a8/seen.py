"""What values within a decoder are while it reads text: a sample of their rows, and the extremes of each text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import Feeds
from tasks.backends.onnx.w8a8.graph import DATA, Graph

ROWS = 24  # that are kept of each text; the first ones draw attention, and with it the largest magnitudes
FIRST = 2

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """One value in some texts."""

    rows: Floats  # (rows, channels), a sample
    text: NDArray[np.int64]  # (rows,): of which text each is
    high: Floats  # (texts, channels): over all rows of a text, which share a scale
    low: Floats

    def halves(self) -> tuple[Seen, Seen]:
        """Every second text, and the others: what is found by the one is judged by the other."""
        return self._of(0), self._of(1)

    def _of(self, rest: int) -> Seen:
        rows = self.text % 2 == rest
        return Seen(self.rows[rows], self.text[rows] // 2, self.high[rest::2], self.low[rest::2])

    @property
    def magnitudes(self) -> Floats:
        """The largest of each channel, (channels,)."""
        found: Floats = np.maximum(np.abs(self.high), np.abs(self.low)).max(0)
        return found


def observe(graph: Graph, values: Iterable[str], given: Sequence[Feeds], folder: Path) -> dict[str, Seen]:
    """Run the model over its inputs, a text each; what each of these values is, by name."""
    import onnx
    import onnxruntime

    wanted = list(dict.fromkeys(values))
    count = len(graph.model.graph.output)
    shown = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted]
    graph.model.graph.output.extend(shown)
    file = folder / "observed.onnx"
    graph.save(file)
    del graph.model.graph.output[count:]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found: dict[str, list[Seen]] = {name: [] for name in wanted}
    for number, feeds in enumerate(given):
        for name, value in zip(wanted, session.run(wanted, dict(feeds)), strict=True):
            found[name].append(_seen(np.asarray(value).reshape(-1, value.shape[-1]), number))
    file.unlink()
    file.with_name(file.name + DATA).unlink()
    return {name: _joined(parts) for name, parts in found.items()}


def decoder_feeds(ports: Iterable[Any], ids: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Inputs of a decoder, by the ports of its graph, for one row of token ids with an empty cache."""
    tokens = np.array([ids], dtype=np.int64)
    given = {
        "input_ids": tokens,
        "attention_mask": np.ones_like(tokens),
        "position_ids": np.arange(len(ids), dtype=np.int64)[None],
    }
    own = {port.name: [size.dim_value for size in port.type.tensor_type.shape.dim] for port in ports}
    empty = {
        name: np.zeros([1, sizes[1], 0, sizes[3]], np.float32)
        for name, sizes in own.items()
        if name.startswith("past_key_values")
    }
    return {name: value for name, value in given.items() if name in own} | empty


def _seen(rows: Floats, text: int) -> Seen:
    kept = np.arange(len(rows))
    if len(rows) > ROWS:
        kept = np.unique([*range(FIRST), *np.linspace(FIRST, len(rows) - 1, ROWS - FIRST).astype(int)])
    return Seen(rows[kept].copy(), np.full(len(kept), text), rows.max(0)[None], rows.min(0)[None])


def _joined(parts: Sequence[Seen]) -> Seen:
    return Seen(*(np.concatenate([getattr(one, name) for one in parts]) for name in ("rows", "text", "high", "low")))
