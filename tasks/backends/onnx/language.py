"""Language models by Olive: ModelBuilder for onnxruntime-genai, and the passes that quantize."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.backends.base import Work
from tasks.backends.files import with_config
from tasks.backends.onnx import head, w8a8
from tasks.backends.onnx.names import CONFIG, FILE, SCORING
from tasks.backends.onnx.w8a8.integer import ACCURACY_LEVEL
from tasks.errors import UnsupportedError
from tasks.records.plan import Recipe

UNQUANTIZED = {"type": "ModelBuilder", "precision": "fp32"}
UNSIGNED = "w8a8-unsigned"  # for processors that overflow with signed weights
INTEGERS = ("w8a8", UNSIGNED)
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "config.json")


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write an onnxruntime-genai folder that is quantized as the recipe says, and reads prompts in parts.

    int8 by w8a8 is made from an unquantized folder, everything else from the checkpoint.
    """
    scratch = out.with_name(f"{out.name}.olive")
    scratch.mkdir(parents=True)
    try:
        if recipe.precision == "int8" and recipe.method in INTEGERS:
            _in_integers(work, scratch, out, unsigned=recipe.method == UNSIGNED)
        else:
            _built(work, scratch / "source", passes(recipe, work, scratch), scratch / "built", out)
        head.prune(out)
        head.read_in_chunks(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _built(work: Work, scratch: Path, steps: dict[str, dict[str, Any]], built: Path, out: Path) -> None:
    """Let Olive build from the checkpoint, and take what is loaded."""
    source = _with_yarn_whole(work.model, scratch)
    _olive({"type": "HfModel", "model_path": str(source)}, steps, built)
    _take(built, work.model, out)


def _in_integers(work: Work, scratch: Path, out: Path, unsigned: bool) -> None:
    """Quantize weights and activations of an unquantized folder, made for it where there is none."""
    from tokenizers import Tokenizer

    base = work.intermediate
    if base is None:
        base = scratch / "unquantized"
        base.mkdir()
        _built(work, scratch / "source", {"build": UNQUANTIZED}, scratch / "built", base)
    if not work.calibration:
        raise UnsupportedError("int8 of weights and activations needs calibration texts, which were not given")
    tokenizer = Tokenizer.from_file(str(work.model / "tokenizer.json"))
    for file in base.iterdir():
        if not file.name.startswith(FILE) and file.name != SCORING:
            shutil.copy2(file, out / file.name)
    graph = base / SCORING
    rows = [tokenizer.encode(text).ids for text in work.calibration]
    chosen = w8a8.make(graph if graph.is_file() else base / FILE, rows, out / FILE, unsigned)
    print(f"inputs of matrix products: {w8a8.in_words(chosen)}", flush=True)


def passes(recipe: Recipe, work: Work, scratch: Path) -> dict[str, dict[str, Any]]:
    """Olive's passes for a recipe, in order; raises UnsupportedError for one it does not know.

    int4: weights by GPTQ, with the layers that k-quants keep wider in 8 bits (plain round-to-nearest loses a third of
    the perplexity of small models); head and embedding are 8 bits always. Where the model ties the two, their equal
    weights are stored once.
    """
    group = recipe.group_size or 32
    if recipe.precision == "fp32":
        return {"build": UNQUANTIZED}
    rounding = {"type": "Rtn", "bits": 8, "group_size": group, "sym": True, "lm_head": True, "embeds": True}
    build = {"type": "ModelBuilder", "precision": "int4", "int4_accuracy_level": ACCURACY_LEVEL}
    # Weights inside model.onnx itself would be held twice in memory: in the parsed file and as the kernels pack them.
    tie = {"type": "GraphSurgeries", "surgeries": [{"surgeon": "TieWordEmbeddings"}], "save_as_external_data": True}
    if recipe.precision == "int8" and recipe.method in ("default", "rtn"):
        return {"round": {**rounding, "sym": recipe.symmetric}, "build": build, "tie": tie}
    if recipe.precision == "int4" and recipe.method == "gptq":
        texts = scratch / "calibration.json"
        texts.write_text(json.dumps(list(work.calibration)))
        gptq = {
            "type": "Gptq",
            "bits": 4,
            "group_size": group,
            "sym": recipe.symmetric,
            "data_config": _calibration(work.model, texts),
        }
        mixed = {"type": "SelectiveMixedPrecision", "algorithm": "k_quant_mixed"}
        return {"mix": mixed, "quantize": gptq, "round": rounding, "build": build, "tie": tie}
    raise UnsupportedError(
        f"ONNX Runtime has no recipe {recipe.precision} by {recipe.method!r}; "
        "allowed: fp32, int8 by rtn or w8a8, int4 by gptq"
    )


def _with_yarn_whole(model: Path, out: Path) -> Path:
    """The checkpoint, linked with YaRN's two bounds in its configuration as onnxruntime-genai's builder wants them.

    Release 0.14 knows YaRN by their names, and builds a model of plain positions where they are left to the defaults of
    transformers; it also takes the dimensions between which is blended as fractions, where transformers takes the whole
    ones around them (Peng et al. 2023, arXiv:2309.00071, section 3.2). So the bounds that give whole ones are stated.
    """
    settings = json.loads((model / "config.json").read_text())
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type")) != "yarn":
        return model
    base = float(rope.get("rope_theta") or settings.get("rope_theta") or 10000.0)
    half = (settings.get("head_dim") or settings["hidden_size"] // settings["num_attention_heads"]) / 2
    trained = rope.get("original_max_position_embeddings") or settings["max_position_embeddings"]

    def stated(name: str, usual: float, whole: Callable[[float], int]) -> float:
        rotations = float(rope.get(name) or usual)
        dimension = half * math.log(trained / (rotations * 2 * math.pi)) / math.log(base)
        if rope.get("truncate", True):
            dimension = whole(dimension)
        return float(trained / (2 * math.pi * base ** (dimension / half)))

    rope |= {"beta_fast": stated("beta_fast", 32.0, math.floor), "beta_slow": stated("beta_slow", 1.0, math.ceil)}
    settings["original_max_position_embeddings"] = trained
    return with_config(model, settings, out)


def _calibration(model: Path, texts: Path) -> dict[str, Any]:
    return {
        "name": "calibration",
        "user_script": str(Path(__file__).with_name("olive_data.py")),
        "load_dataset_config": {"type": "edgewright_texts", "params": {"model": str(model), "path": str(texts)}},
        "pre_process_data_config": {"type": "skip_pre_process"},
        "post_process_data_config": {"type": "skip_post_process"},
        "dataloader_config": {"type": "default_dataloader", "params": {"batch_size": 1}},
    }


def _olive(model: dict[str, Any], passes: dict[str, Any], out: Path) -> None:
    """Run Olive's passes; Olive returns normally when a pass failed, so the files are what counts."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "OLIVE_DISABLE_TELEMETRY": "1"}
    from olive import run

    _name_both_rotary_bases()

    cpu = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
    run(
        {
            "input_model": model,
            "systems": {"local": {"type": "LocalSystem", "accelerators": [cpu]}},
            "passes": passes,
            "target": "local",
            "output_dir": str(out),
            "cache_dir": str(out.with_name(f"{out.name}.cache")),
            "log_severity_level": 1,
        }
    )
    if not (out / FILE).is_file():
        raise UnsupportedError(
            f"Olive made no model with passes {', '.join(p['type'] for p in passes.values())}; its log says why"
        )


def _name_both_rotary_bases() -> None:
    """Give Gemma 3's configuration the names that its two rotary bases had before transformers 5.

    onnxruntime-genai 0.14 reads them by those, and takes 10,000 for a base that it does not find.
    """
    from transformers import Gemma3TextConfig

    def base_of(layers: str) -> property:
        return property(lambda config: config.rope_parameters[layers]["rope_theta"])

    for name, layers in (("rope_local_base_freq", "sliding_attention"), ("rope_theta", "full_attention")):
        if not hasattr(Gemma3TextConfig, name):
            setattr(Gemma3TextConfig, name, base_of(layers))


def _take(built: Path, model: Path, out: Path) -> None:
    """Keep what onnxruntime-genai loads, and the checkpoint's own tokenizer; drop Olive's run records."""
    for file in built.iterdir():
        if file.name == CONFIG or file.name.startswith(FILE):
            file.replace(out / file.name).chmod(0o644)  # onnx keeps data files to their owner
    for name in TOKENIZER:
        if (model / name).is_file():
            shutil.copy2(model / name, out / name)
