"""Any model in OpenVINO: named arrays in, named arrays out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import Feeds, Port, Settings
from tasks.backends.devices import PROCESSOR
from tasks.backends.openvino.device import compiled, properties_of


class OpenvinoArrays:
    """model.xml compiled for a device."""

    def __init__(self, file: Path, threads: int, properties: Settings, device: str = PROCESSOR) -> None:
        """Compile it."""
        self._compiled = compiled(file, threads, properties, device)
        self._request = self._compiled.create_infer_request()
        self._outputs = [port.any_name for port in self._compiled.outputs]
        self.inputs = {
            port.any_name: Port(_shape(port), np.dtype(port.element_type.to_dtype()).name)
            for port in self._compiled.inputs
        }

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Outputs by name."""
        self._request.infer(dict(feeds))
        return {name: np.array(self._request.get_tensor(name).data) for name in self._outputs}

    def runtime(self) -> dict[str, str]:
        """Properties of the compiled model."""
        return properties_of(self._compiled)

    def close(self) -> None:
        """Free the model."""
        del self._request, self._compiled


def _shape(port: Any) -> tuple[int | None, ...]:
    return tuple(size.get_length() if size.is_static else None for size in port.partial_shape)
