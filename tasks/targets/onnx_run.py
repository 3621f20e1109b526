"""One ONNX model run in a process of its own: its answers, and what stays resident when it has answered.

`python -m tasks.targets.onnx_run MODEL OUT` reads JSON: {"rows": [[ids], ...], "entries": {name: value}}; a
row is fed as a language model's tokens with an empty cache. OUT receives the logits of each row's last position.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.run.resident import resident

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def answers(model: Path, rows: list[list[int]], entries: dict[str, str]) -> tuple[list[NDArray[np.float32]], Any]:
    """Logits of the last position of each row; and the session, which keeps its memory."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return [_last(session, ids) for ids in rows], session


def _last(session: Any, ids: list[int]) -> NDArray[np.float32]:
    feeds: dict[str, NDArray[Any]] = {
        "input_ids": np.array([ids], np.int64),
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "position_ids": np.arange(len(ids), dtype=np.int64)[None],
    }
    ports = {port.name: port for port in session.get_inputs()}
    past = {
        name: np.zeros([1 if i == 0 else 0 if i == 2 else n for i, n in enumerate(port.shape)], TYPES[port.type])
        for name, port in ports.items()
        if name.startswith("past_key_values")
    }
    given = {name: value for name, value in feeds.items() if name in ports} | past
    found: NDArray[np.float32] = np.asarray(session.run(["logits"], given)[0][0, -1], np.float32)
    return found


def main() -> None:
    """Run as told on standard input."""
    model, out = (Path(one) for one in sys.argv[1:3])
    told = json.load(sys.stdin)
    found, session = answers(model, told["rows"], told["entries"])
    np.savez(out, *found)
    print(json.dumps(resident()))
    del session


if __name__ == "__main__":
    main()
