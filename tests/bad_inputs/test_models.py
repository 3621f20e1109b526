"""The table of model files with a trouble: what is refused in which words, what is repaired, what is taken as it is.

A refusal exits with code 2 and costs nothing that was there before; what is repaired or left out is told in the origin.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tasks.errors import EXIT_BAD_INPUT, ModelError
from tasks.fetch import fetch
from tasks.params.pipeline import Fetch
from tasks.sources.files import Source
from tests.bad_inputs import models as make

NAN, INF = float("nan"), float("inf")
UP = "model.layers.0.mlp.up_proj.weight"


def only(state: dict[str, Any], part: str) -> dict[str, Any]:
    return {name: value for name, value in state.items() if part not in name}


def prefixed(text: str) -> make.Make:
    return make.tensors(lambda state: {f"{text}{name}": value for name, value in state.items()})


def empty(state: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.empty(0) if value.ndim == 2 else value for name, value in state.items()}


def pad(made: Any) -> None:
    made.enable_padding(length=64)
    made.enable_truncation(max_length=8)


def big_endian(raw: bytearray) -> None:
    raw[4:8] = (3).to_bytes(4, "big")


REFUSED: dict[str, tuple[make.Make, str]] = {
    # tensors
    "names of torch.compile": (prefixed("_orig_mod."), "saved by torch.compile"),
    "names of DataParallel": (prefixed("module."), "DataParallel"),
    "names of another program": (prefixed("mine/"), "other names than the architecture's"),
    "fewer layers than it says": (make.settings(num_hidden_layers=4), "says 4 layers .* the files hold 2"),
    "more layers than it says": (make.settings(num_hidden_layers=1), "says 1 layers .* the files hold 2"),
    "no output layer": (make.settings(tie_word_embeddings=False), "the output layer is not in the files"),
    "a layer's part is absent": (make.tensors(lambda s: only(s, "layers.1.mlp")), "do not hold the whole model"),
    "a layer is absent": (make.tensors(lambda s: only(s, "layers.1.")), "says 2 layers .* the files hold 1"),
    "empty tensors": (make.tensors(empty), "ZeRO-3"),
    "another shape": (make.settings(intermediate_size=96), "other shapes than config.json says"),
    "a longer vocabulary": (make.settings(vocab_size=make.VOCABULARY + 8), "vocab_size was not raised"),
    # numbers
    "NaN": (make.tensors(make.set_to(UP, NAN)), rf"{UP} \(1 of [\d,]+ values NaN\)"),
    "infinite": (make.tensors(make.set_to(UP, INF)), "values infinite"),
    "nothing but zeros": (make.tensors(lambda s: {k: torch.zeros_like(v) for k, v in s.items()}), "nothing but zeros"),
    # files
    "a pointer of git-lfs for weights": (make.files(model__safetensors=make.LFS), "is a pointer of git-lfs"),
    "a pointer of git-lfs for the tokenizer": (make.files(tokenizer__json=make.LFS), "is a pointer of git-lfs"),
    "a link to nothing": (make.dangling, "links to .* which is not there"),
    "a byte order mark": (make.files(config__json=b"\xef\xbb\xbf{}"), "begins with a byte order mark"),
    "a configuration that was cut": (make.files(config__json='{"archi'), "is not JSON, or was cut"),
    "a configuration that is a list": (make.files(config__json="[]"), "holds no object"),
    "an index that was cut": (make.files(model__safetensors__index__json='{"weight_map": {"a'), "is not JSON"),
    "an index without a map": (make.files(model__safetensors__index__json="{}"), "names no files"),
    "an index of other files": (
        make.files(model__safetensors__index__json='{"weight_map": {"a": "model-2.safetensors"}}'), "not there",
    ),
    "an adapter": (make.adapter(False), "is an adapter, and its base, them/base, is not on this machine; lay"),
    "an adapter beside a configuration": (make.adapter(True), "is an adapter, and its base, them/base, is not on"),
    "an adapter of another base": (
        make.lora(change=lambda s: {k.replace("layers.1", "layers.7"): v for k, v in s.items()}),
        "does not have|no place",
    ),
    "an adapter of another size": (
        make.lora(change=lambda s: {k: torch.zeros(4, 8) if "lora_A" in k else v for k, v in s.items()}),
        "size mismatch",
    ),
    "an adapter without a part": (
        make.lora(change=lambda s: {k: v for k, v in s.items() if "layers.0" not in k}), "the adapter does not have",
    ),
    "an adapter that is no number": (
        make.lora(change=lambda s: {k: v * NAN for k, v in s.items()}), "NaN|nan|cannot be merged",
    ),
    "an adapter without weights": (make.lora(change=lambda s: {}), "without adapter_model.safetensors"),
    "an adapter of prompts": (make.lora(peft_type="PROMPT_TUNING"), "of the kind PROMPT_TUNING, which is no change"),
    # its own kind
    "an encoder": (make.settings(architectures=["BertForMaskedLM"]), "but its model_type makes a LlamaModel"),
    "a classifier": (make.settings(architectures=["LlamaForSequenceClassification"]), "is a classifier of texts"),
    "code of its own": (
        make.settings(architectures=["MineForCausalLM"], auto_map={"AutoModelForCausalLM": "mine.Mine"}),
        r"comes with code of its own \(mine.py\)",
    ),
    "quantized": (make.settings(quantization_config={"quant_method": "gptq", "bits": 4}), "is quantized already"),
    "quantized by MLX": (make.settings(quantization={"bits": 4}), r"MLX, 4 bits"),
    # the tokenizer
    "no tokenizer": (make.files(tokenizer__json=None), "has no tokenizer"),
    "a tokenizer that was cut": (
        make.files(tokenizer__json='{"version": "1.0", "mod'), "tokenizer.json cannot be read",
    ),
    "a tokenizer of another model": (make.settings(vocab_size=make.VOCABULARY - 9), "other shapes|embedding"),
    "tokens without rows of the embedding": (
        make.tokenizer(lambda made: made.add_tokens([f"<{number}>" for number in range(9)])), "was not resized",
    ),
    # GGUF
    "big-endian": (make.bytes_of_gguf(big_endian), "on a big-endian machine"),
    "GGUF version 1": (make.bytes_of_gguf(lambda raw: raw.__setitem__(slice(4, 5), b"\x01")), "GGUF version 1"),
    "another file's first bytes": (make.bytes_of_gguf(lambda raw: raw.__setitem__(slice(0, 4), b"GGML")), "not a GGUF"),
    "a GGUF that was cut": (make.bytes_of_gguf(lambda raw: raw.__delitem__(slice(len(raw) // 2, None))), "truncated"),
    "the first part alone": (make.parts(1, 1), "is one of 3 parts; not there: mine-00002-of-00003.gguf"),
    "a part is absent": (make.parts(2, 1, 2), "not there: mine-00003-of-00003.gguf"),
    "the picture part": (make.of_gguf(change={"general.architecture": "clip"}), "is the picture part of a model"),
    "a LoRA of llama.cpp": (make.of_gguf(change={"general.type": "adapter"}), "is a LoRA adapter"),
    "a GGUF without its tokenizer": (make.of_gguf(drop=("tokenizer.",)), "holds no tokenizer"),
    "a vocabulary without weights": (make.of_gguf(without=""), "holds a vocabulary and no weights"),
    "a GGUF without a layer": (make.of_gguf(without="blk.1."), "1 of its 2 layers are not in the file"),
    "a GGUF without a part of a layer": (make.of_gguf(without="blk.1.ffn_up"), "not hold the whole model"),
    "positions by no known rule": (make.of_gguf(more={"rope_freqs.weight": [1.0, 3.0] * 4}), "factors of its own"),
    "a tokenizer of no known kind": (make.of_gguf(change={"tokenizer.ggml.model": "none"}), "of the kind|cannot"),
}  # fmt: skip

TAKEN: dict[str, tuple[make.Make, str]] = {
    "as it should be": (make.copied, "the Hugging Face directory mine$"),
    "from a hub's cache": (make.hub_cache, "the Hugging Face directory tiny$"),
    "a value head beside it": (
        make.tensors(lambda s: s | {"v_head.summary.weight": torch.randn(1, make.HIDDEN)}),
        "left out: v_head.summary.weight",
    ),
    "an output layer of its own, tied by the configuration": (
        make.tensors(lambda s: s | {"lm_head.weight": torch.randn(make.VOCABULARY, make.HIDDEN)}),
        "hold two that differ: these are used",
    ),
    "a layer that was added and not trained": (
        make.tensors(lambda s: s | {UP: torch.zeros_like(s[UP])}), f"matrices of zeros, as the source has them: {UP}",
    ),
    "settings that contradict each other": (
        make.files(generation_config__json='{"do_sample": false, "temperature": 0.9, "eos_token_id": 270}'),
        "were left out: .*temperature",
    ),
    "settings of old configurations": (make.settings(max_length=1000, temperature=0.7, do_sample=True), "mine$"),
    "a padding and truncation that were stored": (make.tokenizer(pad), "padding and truncation .* switched off"),
    "a tokenizer's class that rebuilds it": (
        make.files(tokenizer_config__json='{"tokenizer_class": "LlamaTokenizer"}'), "the class was set to PreTrained",
    ),
    "one added token without a row": (
        make.tokenizer(lambda made: made.add_special_tokens(["<picture>"])), "1 added tokens lie beyond the embedding",
    ),
    "the code of an architecture that is known": (
        make.settings(auto_map={"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"}), "mine$",
    ),
    "an adapter beside its base": (make.lora(), r"the adapter mine \(LORA, 8 tensors\) is merged into its weights"),
    "an adapter in its base's folder": (make.lora("inside"), "the adapter mine .* is merged"),
    "settings that a merged adapter left": (make.files(adapter_config__json='{"peft_type": "LORA"}'), "mine$"),
    "a GGUF": (make.of_gguf(), "its F16 weights expanded once to fp32. proven against llama.cpp"),
    "an ending in capitals": (make.of_gguf("MINE.GGUF"), "proven against llama.cpp"),
    "a file of Ollama's": (make.of_gguf(f"sha256-{'2af3' * 16}"), "proven against llama.cpp"),
    "parts, the first given": (make.parts(1, 1, 2, 3), "in 3 parts"),
    "parts, the second given": (make.parts(2, 1, 2, 3), "in 3 parts"),
    "stretched positions": (
        make.of_gguf(change={"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}), "proven",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make.small_checkpoint(tmp_path_factory.mktemp("small") / "model")


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_words_and_nothing_is_lost(case: str, tmp_path: Path, small: Path) -> None:
    made, words = REFUSED[case]
    out = tmp_path / "artifacts" / "model"
    out.mkdir(parents=True)
    (out / "kept.json").write_text("what was fetched before")
    (tmp_path / "given").mkdir()
    given = made(small, tmp_path / "given")
    with pytest.raises(ModelError, match=words) as refused:
        fetch(Fetch(model=str(given)), out)
    assert refused.value.exit_code == EXIT_BAD_INPUT
    assert (out / "kept.json").read_text() == "what was fetched before"
    assert [one.name for one in out.parent.iterdir()] == ["model"], "nothing half made is left"


def taken(case: str, tmp_path: Path, tiny: Path) -> tuple[Source, Path]:
    (tmp_path / "given").mkdir()
    given = TAKEN[case][0](tiny, tmp_path / "given")
    return fetch(Fetch(model=str(given)), tmp_path / "model"), tmp_path / "model"


@pytest.mark.parametrize("case", TAKEN)
def test_taken_and_told(case: str, tmp_path: Path, small: Path) -> None:
    import re

    record, model = taken(case, tmp_path, small)
    assert re.search(TAKEN[case][1], record.origin), record.origin
    assert not list(model.glob(".*")), "nothing half made is left"
    ends = json.loads((model / "generation_config.json").read_text())["eos_token_id"]
    assert make.VOCABULARY - 2 in ([ends] if isinstance(ends, int) else ends)


def test_what_the_files_say_is_what_is_written(tmp_path: Path, small: Path) -> None:
    _, model = taken("an output layer of its own, tied by the configuration", tmp_path, small)
    state = load_file(model / "model.safetensors")
    assert not torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"])
    assert json.loads((model / "config.json").read_text())["tie_word_embeddings"] is False


def test_a_merged_adapter_changes_the_model_as_it_does_unmerged(tmp_path: Path, small: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    _, model = taken("an adapter beside its base", tmp_path, small)
    ids = torch.tensor([[5, 9, 200, 17, 33]])
    plain = AutoModelForCausalLM.from_pretrained(small)
    with torch.inference_mode():
        before = plain(ids).logits
        wanted = PeftModel.from_pretrained(plain, str(tmp_path / "given" / "mine"))(ids).logits
        found = AutoModelForCausalLM.from_pretrained(model)(ids).logits
    assert torch.allclose(found, wanted, atol=1e-4) and not torch.allclose(found, before, atol=0.1)


def test_the_tokenizer_is_kept_byte_for_byte(tmp_path: Path, small: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    _, model = taken("a tokenizer's class that rebuilds it", tmp_path, small)
    assert (model / "tokenizer.json").read_bytes() == (small / "tokenizer.json").read_bytes()
    text = "In 2023 she paid $12.50 for 3 apples.\n  def f(x):\n\treturn x"
    own = Tokenizer.from_file(str(model / "tokenizer.json")).encode(text).ids
    assert AutoTokenizer.from_pretrained(model)(text)["input_ids"] == own


def test_stretched_positions_reach_the_configuration(tmp_path: Path, small: Path) -> None:
    _, model = taken("stretched positions", tmp_path, small)
    stated = json.loads((model / "config.json").read_text())["rope_parameters"]
    assert (stated["rope_type"], stated["factor"]) == ("linear", 4.0)


def test_a_gguf_that_is_another_model_in_transformers_is_refused(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scaling left out, as transformers leaves it: the proof finds it."""
    from tasks.kinds.causal_lm.incoming import gguf_model

    monkeypatch.setattr(gguf_model, "_scaling", lambda *_: {})
    with pytest.raises(ModelError, match="is not the model that llama.cpp reads from the file: mean KL by quarter"):
        taken("stretched positions", tmp_path, small)
