"""What a llama.cpp context is asked for."""

from __future__ import annotations

from typing import Any

from tasks.backends.base import Settings, Tunable
from tasks.backends.devices import PROCESSOR, device_of
from tasks.errors import UnsupportedError

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


def layers_on_device(settings: Settings) -> int:
    """Layers to put on a GPU: all, or none. Raises UnsupportedError where this build has no backend for one.

    llama.cpp itself would keep to the processor and say nothing.
    """
    import llama_cpp

    device = device_of(settings)
    if device == PROCESSOR:
        return 0
    if not llama_cpp.llama_supports_gpu_offload():
        raise UnsupportedError(f"no available device {device!r}: this build of llama.cpp has the processor alone")
    return -1


def model_params(settings: Settings) -> Any:
    """How a file is loaded: mapped or not, on the processor or not."""
    import llama_cpp

    wanted = llama_cpp.llama_model_default_params()
    wanted.use_mmap = settings.get("use_mmap", SETTINGS["use_mmap"][0]) == "on"
    wanted.n_gpu_layers = layers_on_device(settings)
    return wanted


def asked(settings: Settings) -> tuple[dict[str, str], int, bool]:
    """Every setting, the type of the cache, and whether with flash attention."""
    import llama_cpp

    tuned = {name: settings.get(name, values[0]) for name, values in SETTINGS.items()}
    kind: int = llama_cpp.GGML_TYPE_Q8_0 if tuned["kv_cache"] == "q8_0" else llama_cpp.GGML_TYPE_F16
    return tuned, kind, flash(settings)
