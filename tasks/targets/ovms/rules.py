"""OpenVINO Model Server's config.json and graph.pbtxt: the rules they are read back by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.targets.pbtxt import Field, Read, fault, parsed

OPTIONS_TYPE = "[type.googleapis.com/mediapipe.LLMCalculatorOptions]"
SYNC_TYPE = "[mediapipe.SyncSetInputStreamHandlerOptions.ext]"
CALCULATOR, SIDE_PACKET = "HttpLLMCalculator", "LLM_NODE_RESOURCES:llm"
PIPELINES = ("LM", "VLM", "LM_CB", "VLM_CB", "AUTO")
# Fields of the calculator's options, as the server's own messages name them.
LLM: Mapping[str, Field] = {
    "models_path": Field(str, required=True),
    "device": Field(str),
    "plugin_config": Field(str),
    "max_num_batched_tokens": Field(int),
    "cache_size": Field(int),  # GB; 0: grows
    "max_num_seqs": Field(int),
    "dynamic_split_fuse": Field(bool),
    "enable_prefix_caching": Field(bool),
    "best_of_limit": Field(int),
    "max_tokens_limit": Field(int),
    "pipeline_type": Field(PIPELINES),
}
NODE: Mapping[str, Field] = {
    "name": Field(str),
    "calculator": Field(str, required=True),
    "input_stream": Field(str, repeated=True, required=True),
    "output_stream": Field(str, repeated=True, required=True),
    "input_side_packet": Field(str, repeated=True, required=True),
    "input_stream_info": Field({"tag_index": Field(str, required=True), "back_edge": Field(bool)}, repeated=True),
    "node_options": Field({OPTIONS_TYPE: Field(LLM, required=True)}, required=True),
    "input_stream_handler": Field(
        {
            "input_stream_handler": Field(str, required=True),
            "options": Field({SYNC_TYPE: Field({"sync_set": Field({"tag_index": Field(str)}, repeated=True)})}),
        }
    ),
}
GRAPH: Mapping[str, Field] = {
    "input_stream": Field(str, repeated=True, required=True),
    "output_stream": Field(str, repeated=True, required=True),
    "node": Field(NODE, repeated=True, required=True),
}
SERVED = ("openvino_model.xml", "openvino_model.bin", "openvino_tokenizer.xml", "openvino_detokenizer.xml")
# Keys of config.json and their types; the server takes no others.
MODEL_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "name": str, "base_path": str, "target_device": str, "plugin_config": dict, "nireq": int,
    "batch_size": (str, int), "shape": (str, dict), "layout": (str, dict), "model_version_policy": dict,
}  # fmt: skip
GRAPH_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "base_path": str,
    "graph_path": str,
    "subconfig": str,
}
TOP = ("model_config_list", "mediapipe_config_list", "monitoring")


def options(text: str) -> dict[str, Any]:
    """The calculator's options in a graph, each its one value; raises ValueError for what is no graph of ours."""
    [node] = parsed(text)["node"]
    told: Read = node["node_options"][0][OPTIONS_TYPE][0]
    return {name: values[0] for name, values in told.items()}


def graph_fault(file: Path) -> str:
    """What is wrong with a graph of a language model, in words; empty where nothing is."""
    text = file.read_text(encoding="utf-8")
    found = parsed(text)
    if wrong := fault(found, GRAPH):
        return wrong
    [node] = found["node"]
    if node["calculator"] != [CALCULATOR]:
        return f"its calculator is {node['calculator'][0]!r}, not {CALCULATOR}"
    if SIDE_PACKET not in node["input_side_packet"]:
        return f"its node lacks the side packet {SIDE_PACKET}, by which the server gives it the model"
    loops = [one for one in node.get("input_stream_info", []) if one.get("back_edge") == [True]]
    if not loops or "LOOPBACK:loopback" not in node["input_stream"] or "LOOPBACK:loopback" not in node["output_stream"]:
        return "its node has no loop back to itself, without which it makes one step only"
    told = options(text)
    gone = [name for name in SERVED if not (file.parent / told["models_path"] / name).is_file()]
    if gone:
        return f"models_path {told['models_path']!r} lacks {', '.join(gone)}"
    small = [name for name in ("max_num_batched_tokens", "max_num_seqs") if told.get(name, 1) < 1]
    if small or told.get("cache_size", 0) < 0:
        return f"{(small or ['cache_size'])[0]} is too small"
    return _plugin_fault(json.loads(told.get("plugin_config", "{}")))


def config_fault(file: Path) -> str:
    """What is wrong with config.json, in words; empty where nothing is."""
    raw = json.loads(file.read_text(encoding="utf-8"))
    if unknown := sorted(raw.keys() - set(TOP)):
        return f"{unknown[0]} is no key of config.json; allowed: {', '.join(TOP)}"
    if "model_config_list" not in raw:
        return "model_config_list is missing; it is wanted, if empty"
    models = [one.get("config", {}) for one in raw["model_config_list"]]
    graphs = raw.get("mediapipe_config_list", [])
    if not models and not graphs:
        return "it names no model"
    for kind, known, entries in (("model", MODEL_KEYS, models), ("graph", GRAPH_KEYS, graphs)):
        for one in entries:
            if wrong := _entry_fault(kind, known, one, file.parent):
                return wrong
    names = [one["name"] for one in (*models, *graphs)]
    return "two of its models have the same name" if len(set(names)) < len(names) else ""


def _entry_fault(kind: str, known: Mapping[str, type | tuple[type, ...]], one: Mapping[str, Any], folder: Path) -> str:
    if unknown := sorted(one.keys() - known.keys()):
        return f"{unknown[0]} is no key of a {kind}; allowed: {', '.join(known)}"
    if gone := [name for name in ("name", "base_path") if name not in one]:
        return f"a {kind} lacks {', '.join(gone)}"
    if bad := [name for name, value in one.items() if not isinstance(value, known[name])]:
        return f"{kind} {one['name']!r}: {bad[0]} is {one[bad[0]]!r}"
    base = folder / one["base_path"]
    if kind == "graph":
        file = base / one.get("graph_path", "graph.pbtxt")
        return "" if file.is_file() else f"graph {one['name']!r}: {file.relative_to(folder)} is not there"
    versions = [place for place in base.glob("*") if place.name.isdigit() and list(place.glob("*.xml"))]
    if not versions:
        return f"model {one['name']!r}: {one['base_path']} has no folder of a version with a model, as 1"
    return _device_fault(one) or _plugin_fault(one.get("plugin_config", {}))


def _device_fault(one: Mapping[str, Any]) -> str:
    """Automatic batches need sizes that are known; a model whose shape follows its requests has none."""
    if one.get("target_device", "").startswith("BATCH:") and one.get("shape") == "auto":
        return f"model {one['name']!r}: the device BATCH takes no shape that is 'auto'"
    return ""


def _plugin_fault(told: Mapping[str, Any]) -> str:
    if "NUM_STREAMS" in told and "PERFORMANCE_HINT" in told:
        return "NUM_STREAMS and PERFORMANCE_HINT exclude each other"
    return ""
