"""A package of named arrays as a function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import Arrays
from tasks.backends.table import arrays
from tasks.errors import DataError
from tasks.kinds.base import Form, Packed, Signature

SERVES: tuple[Form, ...] = ("tensors",)


@dataclass
class Mapper:
    """Named arrays in, named arrays out."""

    session: Arrays

    def predict(self, rows: Any, parameters: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Outputs by name; raises DataError for inputs that are absent or of another rank."""
        if rows is None:
            return self.session.run(zeros(self.session))
        return self.session.run(feeds(self.session, rows))


def feeds(session: Arrays, given: Any) -> dict[str, NDArray[Any]]:
    """Inputs as the session wants them: a mapping of arrays, or one array where there is one input.

    Raises DataError, naming it, for an input that is absent, unknown, of another rank or size.
    """
    wanted = session.inputs
    if not isinstance(given, Mapping):
        if len(wanted) != 1:
            raise DataError(f"the model has inputs {', '.join(wanted)}; give a mapping with an array for each")
        given = {next(iter(wanted)): given}
    unknown = [name for name in given if name not in wanted]
    if unknown:
        raise DataError(f"the model has no input {unknown[0]!r}; its inputs: {', '.join(wanted)}")
    found = {}
    for name, port in wanted.items():
        if name not in given:
            raise DataError(f"input {name!r} is absent; the model wants {', '.join(wanted)}")
        try:
            value = np.asarray(given[name]).astype(port.dtype, casting="unsafe")
        except (TypeError, ValueError) as error:
            raise DataError(f"input {name!r} cannot be read as {port.dtype}: {error}") from error
        if value.ndim != len(port.shape):
            raise DataError(f"input {name!r} has {value.ndim} dimensions; the model wants {len(port.shape)}")
        for axis, (size, fixed) in enumerate(zip(value.shape, port.shape, strict=True)):
            if fixed is not None and size != fixed:
                raise DataError(f"input {name!r} is {size} long on axis {axis}; the model wants {fixed}")
        found[name] = value
    return found


def open_package(package: Path, packed: Packed) -> Mapper:
    """Load a package's session."""
    return Mapper(arrays(packed.backend).arrays(package / "model", packed.threads, packed.settings))


def signature(package: Path, packed: Packed) -> Signature:
    """Named arrays with their sizes, -1 for any; outputs as a request of zeros gives them, none where that fails."""
    session = arrays(packed.backend).arrays(package / "model", packed.threads, packed.settings)
    inputs = {name: _typed(port.dtype, port.shape) for name, port in session.inputs.items()}
    free = any(None in port.shape for port in session.inputs.values())
    try:
        given = session.run(zeros(session))
    except Exception:  # noqa: BLE001 - runtimes have a class for each kind of refusal; zeros are no input of every model
        given = {}
    session.close()
    outputs = {
        name: _typed(value.dtype.name, (None if free else len(value), *value.shape[1:]))
        for name, value in given.items()
        if value.ndim
    }
    return Signature(inputs=inputs, outputs=outputs)


def zeros(session: Arrays) -> dict[str, NDArray[Any]]:
    """Inputs of zeros, one long where any length will do."""
    return {name: np.zeros([size or 1 for size in port.shape], port.dtype) for name, port in session.inputs.items()}


def _typed(kind: str, shape: Sequence[int | None]) -> str:
    sizes = ",".join("-1" if size is None else str(size) for size in shape)
    return f"{kind}[{sizes}]"
