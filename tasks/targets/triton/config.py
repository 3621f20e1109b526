"""config.pbtxt of Triton's models: what we write into it, and the rules by which it is read back and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tasks.targets.pbtxt import Field, Message, Read, Word, fault, parsed

FILE = "config.pbtxt"
RESOURCE = "EXECUTION"  # of the rate limiter: one for the whole server
RATE_LIMIT = "--rate-limit=execution_count"  # what the server is started with, where a model asks for a resource
BACKENDS = {"python": "model.py", "onnxruntime": "model.onnx", "openvino": "model.xml", "vllm": "model.json"}
KINDS = ("KIND_AUTO", "KIND_CPU", "KIND_GPU", "KIND_MODEL")
TYPES = {  # of NumPy -> of Triton
    "bool": "TYPE_BOOL", "uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16", "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64", "int8": "TYPE_INT8", "int16": "TYPE_INT16", "int32": "TYPE_INT32", "int64": "TYPE_INT64",
    "float16": "TYPE_FP16", "float32": "TYPE_FP32", "float64": "TYPE_FP64", "str": "TYPE_STRING",
}  # fmt: skip
_TYPE = Field((*TYPES.values(), "TYPE_BF16"), required=True)
_DIMS = Field(int, repeated=True, required=True)
_POLICY = {
    "timeout_action": Field(("REJECT", "DELAY")),
    "default_timeout_microseconds": Field(int),
    "allow_timeout_override": Field(bool),
    "max_queue_size": Field(int),
}
_WARM = {
    "data_type": _TYPE,
    "dims": _DIMS,
    "zero_data": Field(bool),
    "random_data": Field(bool),
    "input_data_file": Field(str),
}
# Fields of inference.ModelConfig that are known here, as the server's own messages name them.
KNOWN: Mapping[str, Field] = {
    "name": Field(str, required=True),
    "platform": Field(str),
    "backend": Field(str, required=True),
    "max_batch_size": Field(int),
    "default_model_filename": Field(str),
    "input": Field(
        {
            "name": Field(str, required=True),
            "data_type": _TYPE,
            "dims": _DIMS,
            "optional": Field(bool),
            "allow_ragged_batch": Field(bool),
        },
        repeated=True,
    ),
    "output": Field({"name": Field(str, required=True), "data_type": _TYPE, "dims": _DIMS}, repeated=True),
    "instance_group": Field(
        {
            "name": Field(str),
            "kind": Field(KINDS),
            "count": Field(int),
            "gpus": Field(int, repeated=True),
            "rate_limiter": Field(
                {
                    "priority": Field(int),
                    "resources": Field(
                        {"name": Field(str, required=True), "global": Field(bool), "count": Field(int)}, repeated=True
                    ),
                }
            ),
        },
        repeated=True,
    ),
    "dynamic_batching": Field(
        {
            "preferred_batch_size": Field(int, repeated=True),
            "max_queue_delay_microseconds": Field(int),
            "preserve_ordering": Field(bool),
            "default_queue_policy": Field(_POLICY),
        }
    ),
    "model_warmup": Field(
        {
            "name": Field(str, required=True),
            "batch_size": Field(int),
            "count": Field(int),
            "inputs": Field({"key": Field(str, required=True), "value": Field(_WARM, required=True)}, repeated=True),
        },
        repeated=True,
    ),
    "model_transaction_policy": Field({"decoupled": Field(bool)}),
    "parameters": Field(
        {"key": Field(str, required=True), "value": Field({"string_value": Field(str)}, required=True)}, repeated=True
    ),
}


class Tensor(NamedTuple):
    """An input or output: its name, NumPy's name of its type, its sizes without the batch, -1 for any."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class Serving:
    """How a model is served."""

    slots: int  # requests of one batch; 0: it is not batched
    delay_us: int = 0  # that a batch waits for more requests
    queue: int = 0  # requests that may wait; 0: any number
    timeout_us: int = 0  # after which one that waits is refused; 0: never
    instances: int = 1
    kind: str = "KIND_CPU"
    turns: bool = False  # executions of all models of the repository take turns, so that none slows another down


def config(
    name: str, backend: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], serving: Serving,
    parameters: Mapping[str, str], decoupled: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """A model's configuration as a message for `pbtxt.written`."""
    batched = serving.slots > 0
    group: dict[str, Any] = {"count": serving.instances, "kind": Word(serving.kind)}
    if serving.turns:
        group["rate_limiter"] = {"resources": [{"name": RESOURCE, "global": True, "count": 1}]}
    made: dict[str, Any] = {
        "name": name,
        "backend": backend,
        "max_batch_size": serving.slots,
        "input": [_tensor(one) for one in inputs],
        "output": [_tensor(one) for one in outputs],
        "instance_group": [group],
    }
    if batched:
        policy = {
            "timeout_action": Word("REJECT"),
            "default_timeout_microseconds": serving.timeout_us,
            "max_queue_size": serving.queue,
        }
        preferred = sorted({max(1, serving.slots // 2), serving.slots})
        made["dynamic_batching"] = {
            "preferred_batch_size": preferred,
            "max_queue_delay_microseconds": serving.delay_us,
            "default_queue_policy": policy,
        }
    if decoupled:
        made["model_transaction_policy"] = {"decoupled": True}
    warm = [{"key": one.name, "value": _warm(one)} for one in inputs]
    made["model_warmup"] = [{"name": "one", "batch_size": 1 if batched else 0, "inputs": warm}]
    made["parameters"] = [{"key": key, "value": {"string_value": value}} for key, value in parameters.items()]
    return made


def _tensor(one: Tensor) -> Message:
    told: dict[str, Any] = {"name": one.name, "data_type": Word(TYPES[one.dtype]), "dims": list(one.dims)}
    return told | ({"optional": True} if one.optional else {})


def _warm(one: Tensor) -> Message:
    sizes = [1 if size < 0 else size for size in one.dims]
    return {"data_type": Word(TYPES[one.dtype]), "dims": sizes, "zero_data": True}


def config_fault(folder: Path) -> str:
    """What is wrong with config.pbtxt of one model, in words; empty where nothing is."""
    found = parsed((folder / FILE).read_text(encoding="utf-8"))
    wrong = fault(found, KNOWN)
    if not wrong and found["name"] != [folder.name]:
        wrong = f"its name is {found['name'][0]!r}, not that of its folder"
    if not wrong and found["backend"][0] not in BACKENDS:
        wrong = f"backend {found['backend'][0]!r} is not known; allowed: {', '.join(BACKENDS)}"
    wrong = wrong or _batch_fault(found) or _tensors_fault(found) or _parameters_fault(found)
    return f"{folder.name}/{FILE}: {wrong}" if wrong else ""


def model_fault(folder: Path) -> str:
    """What is wrong with one model of a repository, its files included; empty where nothing is."""
    if wrong := config_fault(folder):
        return wrong
    backend = str(parsed((folder / FILE).read_text(encoding="utf-8"))["backend"][0])
    versions = [one.name for one in folder.iterdir() if one.is_dir() and one.name.isdigit()]
    if not versions:
        return f"{folder.name} has no folder of a version, as 1"
    gone = [one for one in versions if not (folder / one / BACKENDS[backend]).is_file()]
    return f"{folder.name}/{gone[0]} lacks {BACKENDS[backend]}" if gone else ""


def _batch_fault(found: Read) -> str:
    most = found.get("max_batch_size", [0])[0]
    if most < 0:
        return f"max_batch_size is {most}, and cannot be less than 0"
    for batching in found.get("dynamic_batching", []):
        if most == 0:
            return "it has dynamic batching, and max_batch_size 0"
        beyond = [one for one in batching.get("preferred_batch_size", []) if not 0 < one <= most]
        if beyond:
            return f"preferred_batch_size {beyond[0]} is not within max_batch_size {most}"
    for group in found.get("instance_group", []):
        if group.get("count", [1])[0] < 1:
            return "an instance group has no instance"
    return ""


def _tensors_fault(found: Read) -> str:
    if found["backend"] == ["vllm"]:
        return ""  # the backend says them itself
    for kind in ("input", "output"):
        if not found.get(kind):
            return f"it has no {kind}"
        names = [one["name"][0] for one in found[kind]]
        if len(set(names)) < len(names):
            return f"two of its {kind}s have the same name"
        bad = [one["name"][0] for one in found[kind] if any(size == 0 or size < -1 for size in one["dims"])]
        if bad:
            return f"dims of {kind} {bad[0]!r} are neither a size nor -1"
    inputs = {one["name"][0]: one for one in found["input"]}
    for warm in found.get("model_warmup", []):
        if warm.get("batch_size", [0])[0] > max(1, found.get("max_batch_size", [0])[0]):
            return "its warm-up has a larger batch than max_batch_size"
        for given in warm.get("inputs", []):
            name, value = given["key"][0], given["value"][0]
            if name not in inputs:
                return f"its warm-up gives {name!r}, which is no input"
            if value["data_type"] != inputs[name]["data_type"]:
                return f"its warm-up gives {name!r} as {value['data_type'][0]}, not {inputs[name]['data_type'][0]}"
    return ""


def _parameters_fault(found: Read) -> str:
    given = {one["key"][0]: one["value"][0].get("string_value", [""])[0] for one in found.get("parameters", [])}
    if "engine" not in given:
        return ""
    told = json.loads(given["engine"])
    if "runtime" in told:
        return ""  # a model of arrays has no answers to bound
    gone = [name for name in ("slots", "context", "max_tokens", "end_tokens", "properties") if name not in told]
    return f"parameter engine lacks {', '.join(gone)}" if gone else ""
