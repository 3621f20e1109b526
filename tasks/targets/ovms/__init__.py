"""OpenVINO Model Server: config.json, for a language model a graph for continuous batching, and the model's files.

Options (`targets.NAME.options`): `model_device` (CPU, GPU, AUTO, AUTO:GPU,CPU ...), `slots` (sequences under way),
`context` (tokens of each, which size the cache), `cache_gb` (0: as slots and context need), `batched_tokens` (read in
one step), `max_tokens` (of one answer), `batch` (of an encoder; 1: requests are not put together), `metrics`.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import ConfigError, EdgewrightError, UnsupportedError
from tasks.hardware import cores
from tasks.kinds.causal_lm.predicting import until
from tasks.records.base import Support, write_text
from tasks.records.bundles import Check, Compared, Component, Part
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.targets import bundled, greedy, pbtxt, ports
from tasks.targets.base import Defaults, Shipped
from tasks.targets.ovms import rules

DEFAULTS = Defaults(device="host")
OPTIONS: dict[str, Any] = {
    "model_device": "CPU", "slots": 8, "context": 2048, "cache_gb": 0, "batched_tokens": 256, "max_tokens": 1024,
    "batch": 8, "metrics": True,
}  # fmt: skip
MODELS, CONFIG, GRAPH = "models", "config.json", "graph.pbtxt"
PLUGINS = ("AUTO", "BATCH", "CPU", "GPU", "HETERO", "NPU")
METRICS = ("ovms_current_graphs", "ovms_requests_accepted", "ovms_requests_rejected", "ovms_responses")
ENGINE = "openvino_genai.ContinuousBatchingPipeline, the engine inside OpenVINO Model Server"
BATCH_TIMEOUT_MS = 10  # that an automatic batch waits for more


@dataclass(frozen=True)
class Ovms:
    """A folder for one server."""

    name: str
    device: str

    def accepts(self, model: ModelProfile, recipe: Recipe) -> Support:
        """Whether the server runs the artifact."""
        if recipe.backend != "openvino":
            reason = f"OpenVINO Model Server is given OpenVINO's files, not those of {recipe.backend}"
            return Support(ok=False, reason=reason)
        how = "as a model" if model.family == "arrays" else "by continuous batching"
        return Support(ok=True, reason=f"OpenVINO Model Server runs it {how}")

    def build(self, shipped: Shipped, out: Path) -> tuple[Part, ...]:
        """Write the folder; raises ConfigError for options, UnsupportedError for files of another runtime."""
        told = bundled.options(self.name, shipped.options, OPTIONS)
        _check(self.name, told)
        if shipped.contents.backend != "openvino":
            raise UnsupportedError(self.accepts(shipped.profile, shipped.contents.recipe).reason)
        place = out / MODELS / shipped.name
        arrays = shipped.contents.family == "arrays"
        shutil.copytree(shipped.model, place / "1" if arrays else place)
        if arrays:
            lists: dict[str, Any] = {"model_config_list": [{"config": _entry(shipped, told)}]}
        else:
            write_text(place / GRAPH, pbtxt.written(graph(shipped, told)))
            lists = {
                "model_config_list": [],
                "mediapipe_config_list": [{"name": shipped.name, "base_path": shipped.name}],
            }
        if told["metrics"]:  # off by default, and a graph's have names of their own
            metrics = {"enable": True} if arrays else {"enable": True, "metrics_list": list(METRICS)}
            lists["monitoring"] = {"metrics": metrics}
        write_text(out / MODELS / CONFIG, json.dumps(lists, indent=2) + "\n")
        words = {"NAME": shipped.name, "VARIANT": shipped.contents.variant, "DEVICE": str(told["model_device"])}
        bundled.from_templates(f"ovms/{shipped.contents.family}", out, words)
        bundled.sign_off(shipped, self.name, out)
        return ledger(out)

    def validate(self, bundle: Path) -> tuple[Check, ...]:
        """config.json and graphs by the rules typed again here."""
        graphs = sorted((bundle / MODELS).glob(f"*/{GRAPH}"))
        found = [bundled.check(CONFIG, lambda: rules.config_fault(bundle / MODELS / CONFIG))]
        found += [
            bundled.check(f"{one.parent.name}/{GRAPH}", lambda file=one: rules.graph_fault(file))  # type: ignore[misc]
            for one in graphs
        ]
        absent = (
            "the server's binary is in no package registry that is used here; its files were checked by our own rules"
        )
        return (*found, bundled.manifest_check(bundle), Check(name="ovms", state="not-measured", reason=absent))

    def compare(self, shipped: Shipped, bundle: Path) -> Compared:
        """The numbers of the graph in the engine inside the server, its answers beside the package's."""
        if shipped.contents.family == "arrays":
            reason = "the server's binary is not here; OpenVINO itself ran these very files when they were judged"
            return Compared(engine="ovms", state="not-measured", reason=reason)
        texts = greedy.prompts(shipped)
        if not texts:
            return Compared(engine=ENGINE, state="not-measured", reason="there are no texts to compare answers on")
        try:
            expected = greedy.answers(shipped, texts, 2 * greedy.PROMPT + greedy.NEW)
            where, made = _answered(bundle / MODELS / shipped.name, shipped, texts)
        except (EdgewrightError, OSError, ValueError, TypeError, RuntimeError) as error:
            return Compared(engine=ENGINE, state="failed", reason=f"{type(error).__name__}: {error}")
        pairs = list(zip([*expected, *expected], made, strict=True))
        told = greedy.judged(shipped, pairs, range(len(expected), len(pairs)))
        good = f"{told.said}: {len(expected)} one by one and {len(expected)} together, on {where}"
        return Compared(
            engine=ENGINE, state="failed" if told.fault else "ok", reason=told.fault or good, answers=len(pairs),
            difference=told.difference, unit="logit",
        )  # fmt: skip


def target(name: str, device: str) -> Ovms:
    """The target called `name`."""
    return Ovms(name, device)


def ledger(bundle: Path) -> tuple[Part, ...]:
    """Sizes by component; the server itself comes in its own image."""
    told: dict[Component, int] = {"weights": 0, "tokenizer": 0, "metadata": 0}
    for file in bundle.rglob("*"):
        if file.is_file():
            kind: Component = "weights" if file.suffix in (".bin", ".xml") else "metadata"
            kind = "tokenizer" if "tokenizer" in file.name or file.name in bundled.TOKENIZER else kind
            told[kind] += file.stat().st_size
    names = {
        "weights": "the model's files",
        "tokenizer": "tokenizer and template",
        "metadata": "config, graph, manifests",
    }
    return tuple(
        Part(component=one, name=names[one], download_bytes=size, installed_bytes=size)
        for one, size in told.items()
        if size
    )


def graph(shipped: Shipped, told: Mapping[str, Any]) -> dict[str, Any]:
    """The graph of a language model: one node that the server loops through, a step of all sequences at a time."""
    settings = {
        "models_path": "./",
        "device": told["model_device"],
        "plugin_config": json.dumps(greedy.properties(shipped.contents), sort_keys=True),
        "max_num_batched_tokens": told["batched_tokens"],
        "cache_size": told["cache_gb"] or cache_gb(shipped.profile, told["slots"] * told["context"]),
        "max_num_seqs": told["slots"],
        "dynamic_split_fuse": True,
        "enable_prefix_caching": False,
        "max_tokens_limit": told["max_tokens"],
        "pipeline_type": pbtxt.Word("LM_CB"),
    }
    node = {
        "name": "LLMExecutor",
        "calculator": rules.CALCULATOR,
        "input_stream": ["LOOPBACK:loopback", "HTTP_REQUEST_PAYLOAD:input"],
        "input_side_packet": [rules.SIDE_PACKET],
        "output_stream": ["LOOPBACK:loopback", "HTTP_RESPONSE_PAYLOAD:output"],
        "input_stream_info": [{"tag_index": "LOOPBACK:0", "back_edge": True}],
        "node_options": {rules.OPTIONS_TYPE: settings},
        "input_stream_handler": {
            "input_stream_handler": "SyncSetInputStreamHandler",
            "options": {rules.SYNC_TYPE: {"sync_set": [{"tag_index": "LOOPBACK:0"}]}},
        },
    }
    return {
        "input_stream": ["HTTP_REQUEST_PAYLOAD:input"],
        "output_stream": ["HTTP_RESPONSE_PAYLOAD:output"],
        "node": [node],
    }


def cache_gb(model: ModelProfile, tokens: int) -> int:
    """GB (2**30 bytes) of keys and values of so many tokens, at the two bytes that a cache takes at most here.

    Formula: 2 x layers x heads of keys x size of a head x 2 bytes for each token; whole GB, as the server counts.
    """
    return max(1, math.ceil(4 * model.layers * model.kv_heads * model.head_dim * tokens / 2**30))


def _check(name: str, told: Mapping[str, Any]) -> None:
    for option, value in told.items():
        if type(value) is int and value < (0 if option == "cache_gb" else 1):
            raise ConfigError(f"targets.{name}.options.{option}: {value} is too small; allowed: 1 or more")
    plugins = [one.partition("(")[0].split(".")[0] for one in told["model_device"].replace(":", ",").split(",")]
    if unknown := [one for one in plugins if one not in PLUGINS]:
        where = f"targets.{name}.options.model_device"
        raise ConfigError(f"{where}: {unknown[0]!r} is no device of OpenVINO; allowed: {', '.join(PLUGINS)}")


def _entry(shipped: Shipped, told: Mapping[str, Any]) -> dict[str, Any]:
    """A model of arrays: automatic batches where all its sizes are known and it takes one row, as BATCH wants."""
    found = ports.ports("openvino", shipped.model)
    fixed = all(-1 not in sizes and sizes[:1] == (1,) for one in found for _, sizes in one.values())
    batches = fixed and told["batch"] > 1 and ":" not in told["model_device"]
    where, plugin = str(told["model_device"]), dict[str, Any](greedy.properties(shipped.contents))
    if batches:
        where, plugin = f"BATCH:{where}({told['batch']})", plugin | {"AUTO_BATCH_TIMEOUT": str(BATCH_TIMEOUT_MS)}
    return {"name": shipped.name, "base_path": shipped.name, "target_device": where, "plugin_config": plugin}


def _answered(model: Path, shipped: Shipped, texts: list[str]) -> tuple[str, list[list[int]]]:
    """The device asked for here, and answers by the graph's own numbers: to each text alone, then to all together."""
    import openvino as ov
    import openvino_genai

    told = rules.options((model / GRAPH).read_text(encoding="utf-8"))
    wanted = openvino_genai.SchedulerConfig()
    for name in ("cache_size", "max_num_seqs", "max_num_batched_tokens", "dynamic_split_fuse", "enable_prefix_caching"):
        setattr(wanted, name, told[name])
    here = {one.partition(".")[0] for one in ov.Core().available_devices}
    named = {one for one in PLUGINS if one in told["device"]} - {"AUTO", "BATCH", "HETERO"}
    device = told["device"] if named <= here else "CPU"  # AUTO raises where a plugin's library is missing
    asked = {"INFERENCE_NUM_THREADS": cores.usable_cores()} if device == "CPU" else {}
    pipeline = openvino_genai.ContinuousBatchingPipeline(
        str(model / told["models_path"]), wanted, device, json.loads(told["plugin_config"]) | asked
    )
    config = openvino_genai.GenerationConfig(max_new_tokens=greedy.NEW, ignore_eos=True)
    ids = [ov.Tensor(np.array(pipeline.get_tokenizer().encode(one).input_ids.data)) for one in texts]
    made = [*(one for text in ids for one in pipeline.generate([text], [config], None))]
    made += pipeline.generate(ids, [config] * len(ids), None)
    ends = greedy.end_tokens(shipped.model)
    return device, [until([int(token) for token in one.m_generation_ids[0]], ends) for one in made]
