"""How a package is run by its own runtime, in lines that work from inside the package's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tasks.records import Backend

QUESTION = "What is the capital of France?"
BEGINNING = "The capital of France is"  # for a model without a chat template, which continues text
CHAT = f'[{{"role": "user", "content": "{QUESTION}"}}]'
NEW_TOKENS = 64

# What has to be installed to run (not to make) an artifact, by its name in the package registry.
PACKAGES: dict[Backend, tuple[str, ...]] = {
    "openvino": ("openvino", "openvino-genai", "openvino-tokenizers"),
    "onnx": ("onnxruntime", "onnxruntime-genai"),
    "gguf": ("llama-cpp-python",),
    "mlx": ("mlx", "mlx-lm"),
    "torch": ("torch", "transformers", "safetensors"),
}

# Files without which the lines below would not run.
NEEDS: dict[Backend, tuple[str, ...]] = {
    "openvino": ("openvino_model.xml", "openvino_model.bin", "openvino_tokenizer.xml", "openvino_detokenizer.xml"),
    "onnx": ("genai_config.json", "model.onnx", "tokenizer.json", "tokenizer_config.json"),
    "gguf": ("model.gguf",),
    "mlx": ("config.json", "tokenizer.json", "tokenizer_config.json"),
    "torch": ("config.json",),
}


def pin(package: str, version: str) -> str:
    """The requirement for one package: its public version when it is known.

    >>> pin("torch", "2.13.0+cpu"), pin("mlx", "not installed")
    ('torch==2.13.0', 'mlx')
    """
    return f"{package}=={version.split('+')[0]}" if version[:1].isdigit() else package


def lines(backend: Backend, chat: bool, settings: Mapping[str, str]) -> tuple[str, ...]:
    """Python statements that answer one question; `chat` says whether the tokenizer has a chat template.

    `settings` are the tuned ones it was measured with.
    """
    writers = {"openvino": _openvino, "onnx": _onnx, "gguf": _gguf, "mlx": _mlx, "torch": _torch}
    return writers[backend](chat, settings)


def _openvino(chat: bool, settings: Mapping[str, str]) -> tuple[str, ...]:
    tuned = "".join(f', {name}="{value}"' for name, value in settings.items() if name != "threads")
    return (  # GenAI applies the chat template itself
        "import openvino_genai",
        f'model = openvino_genai.LLMPipeline("model", "CPU"{tuned})',
        f'print(model.generate("{QUESTION if chat else BEGINNING}", max_new_tokens={NEW_TOKENS}))',
    )


def _onnx(chat: bool, settings: Mapping[str, str]) -> tuple[str, ...]:
    entries = {name: value for name, value in settings.items() if name != "threads"}
    overlay = json.dumps({"model": {"decoder": {"session_options": entries}}})
    tuned = ('config = og.Config("model")', f"config.overlay('{overlay}')", "model = og.Model(config)")
    text = f"tokenizer.apply_chat_template('{CHAT}', add_generation_prompt=True)" if chat else f'"{BEGINNING}"'
    return (  # onnxruntime-genai has no call that takes text and gives text; it ends the process on decode([])
        "import onnxruntime_genai as og",
        *(tuned if entries else ('model = og.Model("model")',)),
        "tokenizer, params = og.Tokenizer(model), og.GeneratorParams(model)",
        f"tokens = tokenizer.encode({text})",
        f"params.set_search_options(max_length=len(tokens) + {NEW_TOKENS}, do_sample=False)",
        "generator = og.Generator(model, params)",
        "generator.append_tokens(tokens)",
        "while not generator.is_done():",
        "    generator.generate_next_token()",
        "print(tokenizer.decode(generator.get_sequence(0)))  # question and answer",
    )


def _gguf(chat: bool, settings: Mapping[str, str]) -> tuple[str, ...]:
    small = settings.get("kv_cache") == "q8_0"  # 8: GGML_TYPE_Q8_0
    tuned = ", flash_attn=True" * (small or settings.get("flash_attn", "on") == "on") + ", type_k=8, type_v=8" * small
    tuned += f", n_ubatch={settings['n_ubatch']}" if "n_ubatch" in settings else ""
    call = (
        f'model.create_chat_completion({CHAT}, max_tokens={NEW_TOKENS}, temperature=0)["choices"][0]["message"]'
        if chat
        else f'model("{BEGINNING}", max_tokens={NEW_TOKENS}, temperature=0)["choices"][0]["text"]'
    )
    return (
        "from llama_cpp import Llama",
        f'model = Llama("model/model.gguf", n_ctx=2048{tuned}, verbose=False)',
        f"print({call})",
    )


def _mlx(chat: bool, settings: Mapping[str, str]) -> tuple[str, ...]:
    applied = f"tokenizer.apply_chat_template({CHAT}, add_generation_prompt=True, tokenize=False)"
    return (
        "from mlx_lm import generate, load",
        'model, tokenizer = load("model")',
        f"print(generate(model, tokenizer, {applied if chat else repr(BEGINNING)}, max_tokens={NEW_TOKENS}))",
    )


def _torch(chat: bool, settings: Mapping[str, str]) -> tuple[str, ...]:
    return (
        "from transformers import pipeline",
        'model = pipeline("text-generation", "model", tokenizer="tokenizer")',
        f"print(model({CHAT if chat else repr(BEGINNING)}, max_new_tokens={NEW_TOKENS}, do_sample=False))",
    )
