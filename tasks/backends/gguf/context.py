"""What a llama.cpp context is asked for."""

from __future__ import annotations

from tasks.backends.base import Settings, Tunable

CONTEXT, BATCH = 1024, 512  # tokens a session holds, and processes at once

# The first value of each is what a session uses untold. A prompt is processed `n_ubatch` tokens at a time. Flash
# attention leaves one request as fast, and takes a fifth off a step of eight (26 against 32 ms, the sample's int8).
SETTINGS: Tunable = {
    "flash_attn": ("on", "off"),
    "n_ubatch": ("512", "128"),
    "use_mmap": ("on", "off"),  # off: weights in memory of the process' own, which may come in huge pages
    "kv_cache": ("f16", "q8_0"),
    "threads": ("all", "half"),
}


def flash(settings: Settings) -> bool:
    """Tell whether to use flash attention; llama.cpp takes no quantized cache of values without it."""
    return settings.get("kv_cache") == "q8_0" or settings.get("flash_attn", SETTINGS["flash_attn"][0]) == "on"


def asked(settings: Settings) -> tuple[dict[str, str], int, bool]:
    """Every setting, the type of the cache, and whether with flash attention."""
    import llama_cpp

    tuned = {name: settings.get(name, values[0]) for name, values in SETTINGS.items()}
    kind: int = llama_cpp.GGML_TYPE_Q8_0 if tuned["kv_cache"] == "q8_0" else llama_cpp.GGML_TYPE_F16
    return tuned, kind, flash(settings)
