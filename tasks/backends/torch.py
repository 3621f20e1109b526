"""PyTorch: the fp32 reference, and bf16 as a fair rival. The checkpoint is used as it is."""

from __future__ import annotations

import os
import sys
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
    Names,
    OnToken,
    Settings,
    Tunable,
    Work,
    check_family,
)  # fmt: skip
from tasks.backends.endings import padded, unpadded
from tasks.backends.files import link_files
from tasks.backends.packages import installed, versions_of
from tasks.backends.sampling import Sampler, Sampling, Stream
from tasks.backends.traits import Traits
from tasks.backends.turns import Interleaved
from tasks.errors import UnsupportedError
from tasks.params.pipeline import Variant
from tasks.records.base import Support
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.sources import safetensors

NAME = "torch"
FRAMEWORK: str | None = None  # the reference's own: a rival beside it, not ranked
FAMILIES: tuple[Family, ...] = ("tokens",)
PACKAGES: tuple[str, ...] = ("torch", "transformers")
INSTALL: Names = {"tokens": ("torch", "transformers", "safetensors")}
NEEDS: Names = {"tokens": ("config.json",)}
SETTINGS: Tunable = {}  # the reference and its rival stay as they are
SLOW_WITHOUT = ""
BF16_ISA = {"x86_64": ("avx512f",), "arm64": ("bf16",)}  # with which oneDNN has matrix kernels


def probe(hardware: Hardware, model: ModelProfile) -> Support:
    """Say whether PyTorch can be used here."""
    return installed("torch", "torch")


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write the checkpoint in fp32 (linked, not copied) or bf16."""
    check_family(NAME, FAMILIES, work.family)
    if recipe.precision == "fp32":
        link_files(work.model, out)
        return
    if recipe.precision != "bf16":
        raise UnsupportedError(f"PyTorch variants are fp32 or bf16, not {recipe.precision}")
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.bfloat16)
    model.save_pretrained(out)


def tensor_bytes(artifact: Path) -> dict[str, int]:
    """Bytes of weights per type in the checkpoint."""
    return safetensors.tensor_bytes(artifact)


def import_runtime(family: Family = "tokens") -> None:
    """Import PyTorch and the model classes.

    transformers takes scikit-learn in where it is installed, with pandas and SciPy a quarter of the imports' time, for
    a way of decoding that is not used here: each of some dozen fresh processes would pay for that.
    """
    absent = "sklearn" not in sys.modules
    if absent:
        sys.modules["sklearn"] = None  # type: ignore[assignment]  # how Python notes that a module is not to be had
    try:
        import torch  # noqa: F401
        from transformers import AutoModelForCausalLM  # noqa: F401
        from transformers.generation import candidate_generator  # noqa: F401
    finally:
        if absent:
            del sys.modules["sklearn"]


def versions() -> dict[str, str]:
    """Installed versions of what made and runs the artifact."""
    return versions_of(*PACKAGES)


def scorer(artifact: Path, threads: int, settings: Settings | None = None) -> TorchSession:
    """Load the checkpoint in the precision it is stored in."""
    return TorchSession(artifact, threads)


def speaker(artifact: Path, threads: int, settings: Settings | None = None) -> TorchSession:
    """Load the checkpoint in the precision it is stored in."""
    return TorchSession(artifact, threads)


def engine(artifact: Path, threads: int, slots: int, context: int, settings: Settings | None = None) -> Interleaved:
    """Open the checkpoint to serve; requests take turns, as transformers has no batches that change on a CPU."""
    session = TorchSession(artifact, threads)
    return Interleaved(session.stream, session.close)


def how_to_run(settings: Settings, chat: bool, family: Family = "tokens") -> tuple[str, ...]:
    """Statements that answer one question by transformers."""
    return (
        "from transformers import pipeline",
        'model = pipeline("text-generation", "model", tokenizer="tokenizer")',
        f"print(model({CHAT if chat else repr(BEGINNING)}, max_new_tokens={NEW_TOKENS}, do_sample=False))",
    )


def _usable(variant: Variant, hardware: Hardware) -> Support:
    """Whether PyTorch has matrix kernels for a variant's precision on the processor.

    oneDNN's for bf16 need AVX-512 on x86 and the bf16 instructions on ARM; without them PyTorch falls back to a plain
    loop, seen to multiply at 1 % of fp32's speed, which nobody would take for a rival.
    """
    isa = hardware.isa.value
    if variant.precision != "bf16" or isa is None or hardware.architecture.value not in BF16_ISA:
        return Support(ok=True, reason="not known otherwise")
    wanted = BF16_ISA[hardware.architecture.value]
    if any(name in isa for name in wanted):
        return Support(ok=True, reason="PyTorch has bf16 kernels for this processor")
    return Support(
        ok=False,
        reason=f"PyTorch has no bf16 kernels for a processor without {' or '.join(wanted)}: far slower than fp32 there",
    )


TRAITS = Traits(
    methods={
        "fp32/default": "the unquantized model as it was published, at full precision",
        "bf16/default": "PyTorch at half the bytes, the fair rival of every quantized variant",
    },
    usable=_usable,
)


class TorchSession:
    """A transformers model on the CPU."""

    def __init__(self, artifact: Path, threads: int) -> None:
        """Load the checkpoint."""
        os.environ["HF_HUB_OFFLINE"] = "1"
        import_runtime()
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self._torch = torch
        self._threads = threads
        self._model = AutoModelForCausalLM.from_pretrained(artifact, dtype="auto").eval()

    def _ids(self, ids: Sequence[int]) -> Any:
        return self._torch.tensor([list(ids)], dtype=self._torch.long)

    def score(self, ids: Sequence[int]) -> Logits:
        """Logits of every position, shape (len(ids), vocabulary)."""
        with self._torch.inference_mode():
            logits: Logits = self._model(self._ids(ids), use_cache=False).logits[0].float().numpy()
        return logits

    def score_after(
        self, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[Logits]]:
        """Logits that predict each ending's tokens: the prompts' caches, repeated, under a batch of endings."""
        count, rows = len(endings[0]), padded(endings)
        with self._torch.inference_mode():
            batch = self._torch.tensor([list(prompt) for prompt in prompts], dtype=self._torch.long)
            first = self._model(batch, use_cache=True, logits_to_keep=1)
            logits = first.logits.float().numpy().repeat(count, axis=0)  # shape (endings, 1, vocabulary)
            if len(rows[0]) > 1:
                past = first.past_key_values
                past.batch_repeat_interleave(count)
                rest = self._model(self._torch.tensor(rows, dtype=self._torch.long)[:, :-1], past_key_values=past)
                logits = np.concatenate([logits, rest.logits.float().numpy()], axis=1)
        return unpadded(logits, endings)

    def prefill(self, ids: Sequence[int]) -> None:
        """Process the prompt and take its next token."""
        self.generate(ids, 1)

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: OnToken | None = None) -> list[int]:
        """Greedy continuation of `new_tokens` tokens."""
        made: list[int] = []
        batch, past = self._ids(ids), None
        with self._torch.inference_mode():
            for _ in range(new_tokens):
                result = self._model(batch, past_key_values=past, use_cache=True, logits_to_keep=1)
                past = result.past_key_values
                made.append(int(np.argmax(result.logits[0, -1].float().numpy())))
                batch = self._ids(made[-1:])
                if on_token:
                    on_token(made[-1])
        return made

    def stream(self, ids: Sequence[int], new_tokens: int, sampling: Sampling) -> Stream:
        """Tokens of one request with their log-probabilities, for as long as they are taken."""
        sampler = Sampler(sampling, ids)
        batch, past = self._ids(ids), None
        while True:
            with self._torch.inference_mode():
                result = self._model(batch, past_key_values=past, use_cache=True, logits_to_keep=1)
                past = result.past_key_values
                drawn = sampler.next(result.logits[0, -1].float().numpy())
                batch = self._ids([drawn.token])
            yield drawn

    def generate_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        """Greedy continuations of prompts of one length, together."""
        batch, past = self._torch.tensor([list(ids) for ids in prompts], dtype=self._torch.long), None
        made = []
        with self._torch.inference_mode():
            for _ in range(new_tokens):
                result = self._model(batch, past_key_values=past, use_cache=True, logits_to_keep=1)
                past, batch = result.past_key_values, result.logits[:, -1:].argmax(dim=-1)
                made.append(batch[:, 0].tolist())
        return [list(row) for row in zip(*made, strict=True)]

    def runtime(self) -> dict[str, str]:
        """Execution properties: weight and cache type, attention implementation, threads."""
        dtype = str(self._model.dtype).removeprefix("torch.")
        return {
            "execution": dtype,
            "kv_cache": dtype,
            "attention": str(self._model.config._attn_implementation),
            "threads": str(self._torch.get_num_threads()),
        }

    def close(self) -> None:
        """Drop the model."""
        del self._model
