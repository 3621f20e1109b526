"""Any ONNX model in ONNX Runtime: named arrays in, named arrays out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tasks.backends.base import Feeds, Port, Settings
from tasks.backends.devices import PROCESSOR
from tasks.backends.onnx.providers import created

KINDS = {"float": "float32", "double": "float64"}  # ONNX's words that NumPy has others for


class OnnxArrays:
    """model.onnx on one device."""

    def __init__(self, file: Path, threads: int, entries: Settings, device: str = PROCESSOR) -> None:
        """Create the inference session; `entries` are session configuration entries.

        Raises UnsupportedError for a device that no provider here has.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        for name, value in entries.items():
            options.add_session_config_entry(name, value)
        self._session = created(file, options, device)
        self._threads = threads
        self._outputs = [port.name for port in self._session.get_outputs()]
        self.inputs = {port.name: Port(_shape(port.shape), _kind(port.type)) for port in self._session.get_inputs()}

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Outputs by name."""
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))

    def runtime(self) -> dict[str, str]:
        """Provider and threads; each operator computes in the types the file gives it."""
        return {
            "execution": "as the file says, operator by operator",
            "provider": ",".join(self._session.get_providers()),
            "threads": str(self._threads),
        }

    def close(self) -> None:
        """Free the session."""
        del self._session


def _shape(told: list[Any]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in told)


def _kind(told: str) -> str:
    """NumPy's name of an ONNX type.

    >>> _kind("tensor(float)"), _kind("tensor(int64)")
    ('float32', 'int64')
    """
    inner = told.removeprefix("tensor(").removesuffix(")")
    return KINDS.get(inner, inner)
