"""MLX: Apple's framework. On Linux its CPU build checks correctness; speed is a matter for a Mac.

MLX's quantized kernels are made for Metal: on an x86 CPU one token of a 135 M model took six seconds. Without Metal a
session therefore multiplies with the same weights, dequantized to float32 by MLX itself, and says so in `runtime`.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.backends.base import (
    BEGINNING,
    CHAT,
    NEW_TOKENS,
    Family,
    Logits,
    Made,
    Names,
    OnToken,
    Settings,
    Tunable,
    Work,
    check_family,
)  # fmt: skip
from tasks.backends.packages import installed, versions_of
from tasks.backends.sampling import Drawn, Sampler, Sampling
from tasks.backends.traits import Advice, Groups, Traits
from tasks.errors import UnsupportedError
from tasks.records.base import Support
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.sources import safetensors

NAME = "mlx"
FRAMEWORK: str | None = "mlx"
FAMILIES: tuple[Family, ...] = ("tokens",)
PACKAGES: tuple[str, ...] = ("mlx", "mlx-lm")
INSTALL: Names = {"tokens": ("mlx", "mlx-lm")}
NEEDS: Names = {"tokens": ("config.json", "tokenizer.json", "tokenizer_config.json")}
SETTINGS: Tunable = {}  # MLX has none; Metal decides for itself
SLOW_WITHOUT = "metal"
MADE_FOR = "MLX is made for Apple"
TRAITS = Traits(
    marks={
        "cross_platform": "poor", "enterprise_integration": "limited", "mobile": "excellent",
        "real_time": "excellent", "model_diversity": "llm", "ease_of_use": "excellent",
    },
    advice={"any": Advice("int4", "affine", 64, "4 bit in groups of 64: fits Metal's kernels and unified memory")},
    cannot_run={
        "intel": f"{MADE_FOR} Silicon, not for Intel machines",
        "amd": f"{MADE_FOR} Silicon, not for AMD machines",
        "nvidia": f"{MADE_FOR} Silicon, not for NVIDIA servers",
        "arm-mobile": f"{MADE_FOR} devices, not for Android",
        "arm-embedded": f"{MADE_FOR} devices, not for embedded Arm boards",
        "edge-tpu": f"{MADE_FOR} devices, not for embedded Arm boards",
        "cloud-edge": f"{MADE_FOR} Silicon, which servers at the edge rarely have",
        "generic": f"{MADE_FOR} Silicon",
    },
    methods={
        "fp16/default": "MLX without quantization: shows what the runtime alone gives",
        "int8/default": "8 bit affine groups: small rounding error",
        "int4/default": "4 bit affine groups: the usual choice on Apple devices",
    },
    groups=Groups((128, 64, 32), "skip", only_these=True),
    wheels=("mlx-cpu", "mlx-metal"),
    slow_because="MLX runs on the CPU only here; its speed is measured on a Mac with Metal",
)  # fmt: skip

BITS = {"int8": 8, "int4": 4}


def probe(hardware: Hardware, model: ModelProfile) -> Support:
    """Say whether MLX can be used here."""
    return installed("mlx", "mlx") if installed("mlx_lm", "mlx-lm").ok else installed("mlx_lm", "mlx-lm")


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write an mlx-lm folder: fp16, or group-quantized to 8 or 4 bits (affine, one scale and bias a group)."""
    check_family(NAME, FAMILIES, work.family)
    from mlx_lm import convert as mlx_convert

    source = _with_rope_theta(work.model, out.with_name(f"{out.name}.source"))
    out.rmdir()  # mlx-lm wants to make the folder itself
    options: dict[str, Any] = {"dtype": "float16"}
    if recipe.precision in BITS:
        options |= {"quantize": True, "q_bits": BITS[recipe.precision], "q_group_size": recipe.group_size or 64}
    elif recipe.precision != "fp16":
        raise UnsupportedError(f"MLX variants are fp16, int8 or int4, not {recipe.precision}")
    try:
        mlx_convert(hf_path=str(source), mlx_path=str(out), **options)
    except (ValueError, ModuleNotFoundError) as error:
        raise UnsupportedError(f"mlx-lm refused this model: {error}") from error
    finally:
        for file in source.iterdir():
            file.unlink()
        source.rmdir()


def _with_rope_theta(model: Path, out: Path) -> Path:
    """Link the checkpoint with `rope_theta` and `rope_scaling` at the top of its configuration.

    mlx-lm 0.31 ignores the `rope_parameters` that transformers 5 writes, and silently takes theta 10000, not scaled.
    """
    out.mkdir(parents=True, exist_ok=True)
    for file in model.iterdir():
        if file.name != "config.json":
            (out / file.name).symlink_to(file.resolve())
    settings = json.loads((model / "config.json").read_text())
    rope = settings.get("rope_parameters") or {}
    if "rope_theta" in rope:
        settings.setdefault("rope_theta", rope["rope_theta"])
    if rope.get("rope_type", "default") != "default":
        settings.setdefault("rope_scaling", {name: value for name, value in rope.items() if name != "rope_theta"})
    (out / "config.json").write_text(json.dumps(settings))
    return out


def tensor_bytes(artifact: Path) -> dict[str, int]:
    """Bytes of weights per type; packed weights lie in U32, their width stands in the configuration."""
    bits = json.loads((artifact / "config.json").read_text()).get("quantization", {}).get("bits")
    counted = safetensors.tensor_bytes(artifact)
    return {f"{kind}/{bits}bit" if kind == "U32" else kind: size for kind, size in counted.items()}


def import_runtime(family: Family = "tokens") -> None:
    """Import MLX and mlx-lm's loader."""
    import mlx.core  # noqa: F401
    import mlx_lm.utils  # noqa: F401


def versions() -> dict[str, str]:
    """Installed versions of what made and runs the artifact."""
    return versions_of(*PACKAGES)


def scorer(artifact: Path, threads: int, settings: Settings | None = None) -> MlxSession:
    """Load the folder on MLX's default device."""
    return MlxSession(artifact)


def speaker(artifact: Path, threads: int, settings: Settings | None = None) -> MlxSession:
    """Load the folder on MLX's default device."""
    return MlxSession(artifact)


def engine(artifact: Path, threads: int, slots: int, context: int, settings: Settings | None = None) -> MlxEngine:
    """Load the folder into mlx-lm's batch generator."""
    return MlxEngine(MlxSession(artifact), slots)


def how_to_run(settings: Settings, chat: bool, family: Family = "tokens") -> tuple[str, ...]:
    """Statements that answer one question by mlx-lm."""
    applied = f"tokenizer.apply_chat_template({CHAT}, add_generation_prompt=True, tokenize=False)"
    return (
        "from mlx_lm import generate, load",
        'model, tokenizer = load("model")',
        f"print(generate(model, tokenizer, {applied if chat else repr(BEGINNING)}, max_tokens={NEW_TOKENS}))",
    )


class MlxSession:
    """An mlx-lm model with its prompt cache."""

    def __init__(self, artifact: Path) -> None:
        """Load the weights."""
        os.environ["HF_HUB_OFFLINE"] = "1"
        import mlx.core as mx
        from mlx_lm.utils import load_model

        self._mx = mx
        self._model, self._config = load_model(artifact)
        self._native = mx.metal.is_available()
        if not self._native:
            self._dequantize()

    def _dequantize(self) -> None:
        """Replace quantized layers by plain ones with the weights they stand for, all in float32."""
        from mlx.utils import tree_map
        from mlx_lm.utils import dequantize_model

        if "quantization" in self._config:
            self._model = dequantize_model(self._model)
        floats = (self._mx.float16, self._mx.bfloat16)
        wide = tree_map(lambda x: x.astype(self._mx.float32) if x.dtype in floats else x, self._model.parameters())
        self._model.update(wide)
        self._mx.eval(self._model.parameters())

    def score(self, ids: Sequence[int]) -> Logits:
        """Logits of every position, shape (len(ids), vocabulary)."""
        return self._rows(self._model(self._mx.array([list(ids)]))[0])

    def score_after(
        self, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[Logits]]:
        """Logits that predict each ending's tokens; the cache is cut back to the prompt after each."""
        return [self._after(prompt, own) for prompt, own in zip(prompts, endings, strict=True)]

    def _after(self, prompt: Sequence[int], endings: Sequence[Sequence[int]]) -> list[Logits]:
        from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

        cache = make_prompt_cache(self._model)
        first = self._rows(self._model(self._mx.array([list(prompt)]), cache=cache)[0, -1:])
        found = []
        for ending in endings:
            rest = (
                [self._rows(self._model(self._mx.array([list(ending[:-1])]), cache=cache)[0])]
                if len(ending) > 1
                else []
            )
            trim_prompt_cache(cache, len(ending) - 1)
            found.append(np.concatenate([first, *rest]))
        return found

    def _rows(self, logits: Any) -> Logits:
        wide = logits.astype(self._mx.float32)
        self._mx.eval(wide)
        return np.array(wide, dtype=np.float32)

    def prefill(self, ids: Sequence[int]) -> None:
        """Process the prompt and take its next token."""
        self.generate(ids, 1)

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: OnToken | None = None) -> list[int]:
        """Greedy continuation of `new_tokens` tokens."""
        from mlx_lm.models.cache import make_prompt_cache

        cache = make_prompt_cache(self._model)
        made: list[int] = []
        batch = list(ids)
        for _ in range(new_tokens):
            logits = self._model(self._mx.array([batch]), cache=cache)[0, -1]
            batch = [int(np.array(self._mx.argmax(logits)))]
            made += batch
            if on_token:
                on_token(made[-1])
        return made

    def generate_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        """Greedy continuations of prompts of one length, together."""
        from mlx_lm.models.cache import make_prompt_cache

        cache, made = make_prompt_cache(self._model), []
        batch = self._mx.array([list(ids) for ids in prompts])
        for _ in range(new_tokens):
            batch = self._mx.argmax(self._model(batch, cache=cache)[:, -1], axis=-1)[:, None]
            made.append([int(token) for token in np.array(batch)[:, 0]])
        return [list(row) for row in zip(*made, strict=True)]

    def runtime(self) -> dict[str, str]:
        """Execution properties: device and types."""
        stored = f"quantized {self._config['quantization']}" if "quantization" in self._config else "float16"
        return {
            "execution": f"float16, {stored}"
            if self._native
            else f"float32 without Metal; weights as stored ({stored}), widened",
            "kv_cache": "float16" if self._native else "float32",
            "device": str(self._mx.default_device()),
            "threads": "MLX's own",
        }

    def close(self) -> None:
        """Drop the model."""
        del self._model


class MlxEngine:
    """mlx-lm's batch generator, which takes requests in and lets them go while it runs."""

    def __init__(self, session: MlxSession, slots: int) -> None:
        """Stand before a loaded model."""
        from mlx_lm.generate import BatchGenerator

        self._session, self._mx = session, session._mx
        self._batch = BatchGenerator(session._model, completion_batch_size=slots, prefill_batch_size=1)
        self._running: dict[int, tuple[int, int]] = {}  # mlx-lm's number -> our key, tokens left
        self._drawn: dict[int, deque[Drawn]] = {}  # our key -> what its sampler chose and was not told yet

    def add(self, key: int, ids: Sequence[int], new_tokens: int, sampling: Sampling) -> None:
        """Begin a request."""
        [number] = self._batch.insert(
            [list(ids)], max_tokens=[new_tokens], samplers=[self._sampler(key, ids, sampling)]
        )
        self._running[number] = (key, new_tokens)

    def _sampler(self, key: int, ids: Sequence[int], sampling: Sampling) -> Any:
        if sampling == Sampling(seed=sampling.seed) and sampling.guide is None:
            # Never none: of requests without a sampler mlx-lm forgets none that has left, and gives a later one's
            # sampler to nobody (`GenerationBatch.filter`, 0.31).
            return lambda logprobs: self._mx.argmax(logprobs, axis=-1)
        own, drawn = Sampler(sampling, ids), deque[Drawn]()
        self._drawn[key] = drawn

        def draw(logprobs: Any) -> Any:
            drawn.extend(own.next(row) for row in np.array(logprobs.astype(self._mx.float32)))
            return self._mx.array([drawn[-1].token])

        return draw

    def step(self) -> list[Made]:
        """Run one step of the generator."""
        if not self._running:
            return []
        made = []
        for one in self._batch.next()[1]:
            key, left = self._running[one.uid]
            token = int(one.token)
            top = self._drawn[key].popleft().top if key in self._drawn else ()
            made.append(Made(key, token, float(one.logprobs[token].item()), left == 1, top))
            self._running[one.uid] = (key, left - 1)
            if left == 1:
                del self._running[one.uid]
                self._drawn.pop(key, None)
        return made

    def drop(self, key: int) -> None:
        """Forget a request."""
        for number in [number for number, (own, _) in self._running.items() if own == key]:
            del self._running[number]
            self._batch.remove([number])
        self._drawn.pop(key, None)

    def close(self) -> None:
        """Free generator and model."""
        self._batch.close()
        self._session.close()
