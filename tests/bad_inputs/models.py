"""Model files with one trouble each, as people have them, made from the tests' tiny model."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 269060552\n"
Make = Callable[[Path, Path], Path]  # tiny checkpoint, empty folder -> what is given as the model


def copied(tiny: Path, out: Path) -> Path:
    """The checkpoint, its weights linked."""
    return Path(shutil.copytree(tiny, out / "mine", copy_function=os.link))


def rewritten(file: Path, content: str | bytes) -> None:
    """Write a file anew, so that what it was linked with stays as it is."""
    file.unlink(missing_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def edit(file: Path, drop: tuple[str, ...] = (), **changes: Any) -> None:
    """Set and remove keys of a JSON file."""
    known = json.loads(file.read_text()) if file.is_file() else {}
    rewritten(file, json.dumps({key: value for key, value in known.items() if key not in drop} | changes))


def tensors(change: Callable[[dict[str, Any]], dict[str, Any]], **config: Any) -> Make:
    """The checkpoint with other tensors and settings."""

    def make(tiny: Path, out: Path) -> Path:
        model = copied(tiny, out)
        changed = change(load_file(model / "model.safetensors"))
        (model / "model.safetensors").unlink()
        save_file(
            {k: v.contiguous() for k, v in changed.items()}, model / "model.safetensors", metadata={"format": "pt"}
        )
        if config:
            edit(model / "config.json", **config)
        return model

    return make


def settings(**config: Any) -> Make:
    """The checkpoint with another config.json."""

    def make(tiny: Path, out: Path) -> Path:
        model = copied(tiny, out)
        edit(model / "config.json", **config)
        return model

    return make


def files(**contents: str | bytes | None) -> Make:
    """The checkpoint with files written anew, or taken away; `__` stands for a dot."""

    def make(tiny: Path, out: Path) -> Path:
        model = copied(tiny, out)
        for name, content in contents.items():
            file = model / name.replace("__", ".")
            if content is None:
                file.unlink(missing_ok=True)
            else:
                rewritten(file, content)
        return model

    return make


def tokenizer(change: Callable[[Any], None]) -> Make:
    """The checkpoint with another tokenizer.json."""

    def make(tiny: Path, out: Path) -> Path:
        from tokenizers import Tokenizer

        model = copied(tiny, out)
        made = Tokenizer.from_file(str(model / "tokenizer.json"))
        change(made)
        (model / "tokenizer.json").unlink()
        made.save(str(model / "tokenizer.json"))
        return model

    return make


def set_to(name: str, value: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A tensor with one of its values replaced."""

    def change(state: dict[str, Any]) -> dict[str, Any]:
        tensor = state[name].clone()
        tensor.view(-1)[0] = value
        return state | {name: tensor}

    return change


def adapter(beside_config: bool) -> Make:
    """A LoRA adapter, alone or beside its base model's config.json."""

    def make(tiny: Path, out: Path) -> Path:
        model = copied(tiny, out)
        (model / "model.safetensors").unlink()
        if not beside_config:
            (model / "config.json").unlink()
        edit(model / "adapter_config.json", base_model_name_or_path="them/base", peft_type="LORA", r=8)
        save_file({"base_model.model.x.lora_A.weight": torch.zeros(8, 4)}, model / "adapter_model.safetensors")
        return model

    return make


def lora(
    base: str = "beside", change: Callable[[dict[str, Any]], dict[str, Any]] = lambda state: state, **config: Any
) -> Make:
    """A LoRA adapter of the checkpoint, which lies `beside` it, in the same folder (`inside`), or at that path."""

    def make(tiny: Path, out: Path) -> Path:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        torch.manual_seed(1)
        wanted = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), wanted)
        adapter = copied(tiny, out) if base == "inside" else out / "mine"
        adapted.save_pretrained(adapter)
        if base == "beside":
            shutil.copytree(tiny, out / "base", copy_function=os.link)
        stated = {"beside": "them/base", "inside": "them/base"}.get(base, base)
        edit(adapter / "adapter_config.json", base_model_name_or_path=stated, **config)
        file = adapter / "adapter_model.safetensors"
        state = change(load_file(file))
        file.unlink()
        if state:
            save_file(state, file)
        return adapter

    return make


def dangling(tiny: Path, out: Path) -> Path:
    """A link of a hub's cache whose blob is gone."""
    model = copied(tiny, out)
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("../../blobs/0123.incomplete")
    return model


def hub_cache(tiny: Path, out: Path) -> Path:
    """A hub's cache as it should be: links to blobs, the folder named by the commit."""
    snapshot, blobs = out / "models--them--tiny" / "snapshots" / ("c" * 40), out / "models--them--tiny" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(tiny.iterdir())):
        os.link(file, blobs / f"{number:040x}")
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"{number:040x}")
    return snapshot


def vocabulary() -> tuple[list[str], list[str]]:
    """Tokens and merges of a small byte-level tokenizer, as GPT-2 writes them; the last two tokens are special."""
    shown = {byte: chr(byte) for byte in [*range(33, 127), *range(161, 173), *range(174, 256)]}
    for number, byte in enumerate(byte for byte in range(256) if byte not in shown):
        shown[byte] = chr(256 + number)
    merges = ["Ġ t", "Ġt h", "i n", "a n", "Ġth e", "1 2", "12 3", "Ġ 1", "Ċ Ċ", "Ġ Ġ", "e r", "' s", "' S"]
    return [*sorted(shown.values()), *(merge.replace(" ", "") for merge in merges), "<|end|>", "<|turn|>"], merges


VOCABULARY = len(vocabulary()[0])
HIDDEN, LAYERS, HEADS, KV_HEADS, INNER = 64, 2, 4, 2, 128


def small_gguf(file: Path) -> Path:
    """A two-layer Llama of random weights, large enough that its predictions are peaked, as one GGUF file."""
    tokens, merges = vocabulary()
    writer, dice = gguf.GGUFWriter(file, "llama"), np.random.default_rng(3)
    writer.add_block_count(LAYERS)
    writer.add_context_length(2048)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(VOCABULARY)
    writer.add_name("Base")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    writer.add_token_types([1] * (VOCABULARY - 2) + [3, 3])
    writer.add_bos_token_id(VOCABULARY - 2)
    writer.add_eos_token_id(VOCABULARY - 2)
    writer.add_add_bos_token(False)

    def add(name: str, *shape: int) -> None:
        ones = len(shape) == 1
        made = np.ones(shape) if ones else dice.standard_normal(shape) * 0.2
        writer.add_tensor(f"{name}.weight", made.astype(np.float32 if ones else np.float16))

    add("token_embd", VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        at, kv = f"blk.{layer}.", HIDDEN // HEADS * KV_HEADS
        for name, *shape in (
            ("attn_norm", HIDDEN), ("attn_q", HIDDEN, HIDDEN), ("attn_k", kv, HIDDEN), ("attn_v", kv, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN), ("ffn_norm", HIDDEN), ("ffn_gate", INNER, HIDDEN),
            ("ffn_up", INNER, HIDDEN), ("ffn_down", HIDDEN, INNER),
        ):  # fmt: skip
            add(at + str(name), *map(int, shape))
    add("output_norm", HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def small_checkpoint(out: Path) -> Path:
    """A two-layer Llama of random weights with the same tokenizer, as a Hugging Face directory."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from tasks.kinds.causal_lm.incoming.gguf_tokenizer import write_tokenizer

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=VOCABULARY - 2, eos_token_id=VOCABULARY - 2, initializer_range=0.2,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(out)
    write_tokenizer(small_gguf(out / "of.gguf"), out)
    (out / "of.gguf").unlink()
    return out


def rewrite(
    source: Path, out: Path, change: dict[str, Any] | None = None, drop: tuple[str, ...] = (), split: int = 0,
    without: str = "-", more: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Copy a GGUF with other metadata, tensors left out by their beginning, others added, or in parts."""
    reader, left = gguf.GGUFReader(str(source)), dict(change or {})
    own = left.pop("general.architecture", reader.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(out, own, split_max_tensors=split)
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith(("GGUF.", *drop)):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, left.pop(field.name, field.contents()), kind, sub_type=inner)
    for name, value in left.items():
        {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}[type(value)](name, value)
    for tensor in reader.tensors:
        if not tensor.name.startswith(without):
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for name, array in (more or {}).items():
        writer.add_tensor(name, np.asarray(array, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def of_gguf(name: str = "mine.gguf", **changes: Any) -> Make:
    """The GGUF file, changed."""
    return lambda _, out: rewrite(small_gguf(out / ".of"), out / name, **changes)


def parts(given: int, *there: int) -> Make:
    """The GGUF in three parts, of which those stay; `given` is what is named."""

    def make(tiny: Path, out: Path) -> Path:
        rewrite(small_gguf(out / ".of"), out / "mine.gguf", split=8)
        made = sorted(out.glob("mine-*.gguf"))
        for number, part in enumerate(made, 1):
            if number not in there:
                part.unlink()
        return made[given - 1]

    return make


def bytes_of_gguf(change: Callable[[bytearray], None], name: str = "mine.gguf") -> Make:
    """The GGUF with other bytes."""

    def make(tiny: Path, out: Path) -> Path:
        raw = bytearray(small_gguf(out / ".of").read_bytes())
        change(raw)
        (out / name).write_bytes(raw)
        return out / name

    return make
