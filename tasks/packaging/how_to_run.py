"""How a package is run by its own runtime, in lines that work from inside the package's folder."""

from __future__ import annotations

from tasks.records import Backend

QUESTION = "What is the capital of France?"
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


def lines(backend: Backend, chat: bool) -> tuple[str, ...]:
    """Python statements that answer one question; `chat` says whether the tokenizer has a chat template."""
    return {"openvino": _openvino, "onnx": _onnx, "gguf": _gguf, "mlx": _mlx, "torch": _torch}[backend](chat)


def _openvino(chat: bool) -> tuple[str, ...]:
    return (  # GenAI applies the chat template itself
        "import openvino_genai",
        'model = openvino_genai.LLMPipeline("model", "CPU")',
        f'print(model.generate("{QUESTION}", max_new_tokens={NEW_TOKENS}))',
    )


def _onnx(chat: bool) -> tuple[str, ...]:
    text = f"tokenizer.apply_chat_template('{CHAT}', add_generation_prompt=True)" if chat else f'"{QUESTION}"'
    return (  # onnxruntime-genai has no one call that takes text and gives text
        "import onnxruntime_genai as og",
        'model = og.Model("model")',
        "tokenizer = og.Tokenizer(model)",
        "params = og.GeneratorParams(model)",
        f"tokens = tokenizer.encode({text})",
        f"params.set_search_options(max_length=len(tokens) + {NEW_TOKENS}, do_sample=False)",
        "generator = og.Generator(model, params)",
        "generator.append_tokens(tokens)",
        "while not generator.is_done():",
        "    generator.generate_next_token()",
        "print(tokenizer.decode(generator.get_sequence(0)[len(tokens):]))",
    )


def _gguf(chat: bool) -> tuple[str, ...]:
    call = (
        f'model.create_chat_completion({CHAT}, max_tokens={NEW_TOKENS})["choices"][0]["message"]["content"]'
        if chat
        else f'model("{QUESTION}", max_tokens={NEW_TOKENS})["choices"][0]["text"]'
    )
    return (
        "from llama_cpp import Llama",
        'model = Llama("model/model.gguf", n_ctx=2048, verbose=False)',
        f"print({call})",
    )


def _mlx(chat: bool) -> tuple[str, ...]:
    text = (
        f"tokenizer.apply_chat_template({CHAT}, add_generation_prompt=True, tokenize=False)"
        if chat
        else f'"{QUESTION}"'
    )
    return (
        "from mlx_lm import generate, load",
        'model, tokenizer = load("model")',
        f"print(generate(model, tokenizer, {text}, max_tokens={NEW_TOKENS}))",
    )


def _torch(chat: bool) -> tuple[str, ...]:
    text = CHAT if chat else f'"{QUESTION}"'
    return (
        "from transformers import pipeline",
        'model = pipeline("text-generation", "model", tokenizer="tokenizer")',
        f'print(model({text}, max_new_tokens={NEW_TOKENS})[0]["generated_text"])',
    )
