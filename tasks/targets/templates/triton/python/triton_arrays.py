"""A model of named arrays for Triton's Python backend: what is batched by the server is run at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model that lies beside this file."""
        told = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        settings = json.loads(told["parameters"]["engine"]["string_value"])
        self.inputs = [one["name"] for one in told["input"]]
        self.outputs = [one["name"] for one in told["output"]]
        self.batched = told["max_batch_size"] > 0
        opened = _onnx if settings["runtime"] == "onnx" else _openvino
        self.run = opened(folder, self.outputs, settings["properties"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run a batch of requests at once, and share out the rows."""
        given = [[pb_utils.get_input_tensor_by_name(one, name).as_numpy() for name in self.inputs] for one in requests]
        if not self.batched:
            return [self._answer(self.run(dict(zip(self.inputs, one, strict=True)))) for one in given]
        feeds = {name: np.concatenate([one[at] for one in given]) for at, name in enumerate(self.inputs)}
        made = self.run(feeds)
        ends = np.cumsum([len(one[0]) for one in given])[:-1]
        pieces = [np.split(array, ends) for array in made]
        return [self._answer(list(one)) for one in zip(*pieces, strict=True)]

    def _answer(self, arrays: list[Any]) -> Any:
        tensors = [pb_utils.Tensor(name, array) for name, array in zip(self.outputs, arrays, strict=True)]
        return pb_utils.InferenceResponse(tensors)


def _onnx(folder: Path, outputs: list[str], properties: dict[str, str]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    for name, value in properties.items():
        options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(outputs, feeds)


def _openvino(folder: Path, outputs: list[str], properties: dict[str, str]) -> Any:
    import openvino as ov

    request = ov.Core().compile_model(str(folder / "model.xml"), "CPU", properties).create_infer_request()

    def run(feeds: dict[str, Any]) -> list[Any]:
        request.infer(feeds)
        return [np.array(request.get_tensor(name).data) for name in outputs]

    return run
