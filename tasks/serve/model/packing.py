"""Arrays inside of a JSON line: type, shape and the bytes in base64."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def packed(value: NDArray[Any]) -> dict[str, Any]:
    """An array of numbers as JSON.

    >>> unpacked(packed(np.arange(3, dtype=np.int16))).tolist()
    [0, 1, 2]
    """
    held = np.require(value, requirements="C")
    return {"type": held.dtype.str, "shape": list(held.shape), "data": base64.b64encode(held.tobytes()).decode()}


def unpacked(told: Mapping[str, Any]) -> NDArray[Any]:
    """The array that was packed."""
    return np.frombuffer(base64.b64decode(told["data"]), np.dtype(told["type"])).reshape(told["shape"]).copy()
