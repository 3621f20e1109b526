"""Inputs of the user's, from .npz or JSON lines, split into what is judged, calibrated and timed with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import Port
from tasks.backends.table import arrays
from tasks.errors import DataError
from tasks.kinds.arrays import split
from tasks.kinds.arrays.rows import Named, Rows, load
from tasks.kinds.arrays.scoring import REFERENCE_BACKEND
from tasks.kinds.arrays.split import calibration as calibration
from tasks.kinds.base import Prepared
from tasks.params.pipeline import Convert, Data

LABEL = ("label", "labels")
FORMS = "a .npz file with an array for each input, or JSON lines with an object of inputs each"


def refuse(params: Data) -> None:
    """Raise DataError for inputs that are not there or have no such form."""
    read(params.source)


def prepare(params: Data, convert: Convert, model: Path, out: Path) -> Prepared:
    """Write rows of the user's inputs; raises DataError for inputs that the model does not take."""
    ports = _ports(model)
    given = read(params.source)
    label = next((name for name in LABEL if name in given and name not in ports), None)
    labels = {"label": given.pop(label)} if label else {}
    rows = fit(given, ports)
    parts, notes = split.choose(rows, params, params.source)
    return split.put(rows, labels, parts, split.numbers_in(rows), out, split.Said(params.source, "numbers", notes))


def _ports(model: Path) -> dict[str, Port]:
    session = arrays(REFERENCE_BACKEND).arrays(model, 1)
    found = dict(session.inputs)
    session.close()
    return found


def read(source: str) -> Named:
    """Arrays by name, (rows, ...); raises DataError for a file that is not there or has no such form."""
    file = Path(source).expanduser()
    if not file.is_file():
        raise DataError(f"data.source {source!r} is not there: an ONNX model needs inputs; give {FORMS}")
    if file.suffix == ".npz":
        return load(file)
    if file.suffix in (".jsonl", ".json"):
        return _lines(file)
    raise DataError(f"data.source {source!r} is no file of inputs; give {FORMS}")


def _lines(file: Path) -> Named:
    found: dict[str, list[Any]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{file}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict) or (found and set(row) != set(found)):
            wanted = ", ".join(found) or "the model's inputs"
            raise DataError(f"{file}, line {number} is no object with {wanted}")
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    try:
        return {name: np.array(values) for name, values in found.items()}
    except ValueError as error:
        raise DataError(f"{file}: rows have inputs of other shapes ({error}); give rows of one size") from error


def fit(given: Named, ports: dict[str, Port]) -> Rows:
    """Rows as the model takes them; raises DataError naming the input that does not fit.

    Arrays of as many dimensions as the input has are rows along the first, which is that of batches; of one more, each
    row is all of the inputs by itself.
    """
    _check_names(given, ports)
    counts = {name: len(value) if value.ndim else 0 for name, value in given.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise DataError(f"inputs have other numbers of rows: {counts}")
    more = {name: given[name].ndim - len(ports[name].shape) for name in ports}
    whole = any(extra == 1 for extra in more.values()) or any(not port.shape for port in ports.values())
    found = {name: _as(given[name], port, name, whole) for name, port in ports.items()}
    return Rows(found, whole=whole)


def _check_names(given: Named, ports: dict[str, Port]) -> None:
    absent = [name for name in ports if name not in given]
    unknown = [name for name in given if name not in ports]
    if absent or unknown:
        shown = ", ".join(f"{name} {port.dtype}{_shape(port)}" for name, port in ports.items())
        what = f"{absent[0]!r} is absent" if absent else f"{unknown[0]!r} is unknown"
        raise DataError(f"input {what}; the model takes {shown}, and label beside them where answers are known")


def _shape(port: Port) -> list[str]:
    return ["?" if size is None else str(size) for size in port.shape]


def _as(value: NDArray[Any], port: Port, name: str, whole: bool) -> NDArray[Any]:
    wanted = len(port.shape) + whole
    if value.ndim == wanted - 1 and whole and port.shape:  # a row without its axis of batches
        value = value[:, None]
    inner = port.shape if whole else (None, *port.shape[1:])
    have = value.shape[1:] if whole else value.shape
    if value.ndim != wanted or any(size is not None and size != own for size, own in zip(inner, have, strict=True)):
        raise DataError(
            f"input {name!r} has shape {value.shape}; the model takes {_shape(port)} of {port.dtype}, rows along "
            "an axis of its own or that of batches"
        )
    if value.dtype.kind not in "biuf" or (np.dtype(port.dtype).kind in "iu" and value.dtype.kind == "f"):
        raise DataError(f"input {name!r} holds {value.dtype}; the model takes {port.dtype}")
    if not np.isfinite(value).all():
        raise DataError(f"input {name!r} holds NaN or infinity")
    return value.astype(port.dtype)
