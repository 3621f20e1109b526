"""This project's figures beside those of outside rulers, for the same work in the same process.

llama.cpp and OpenVINO GenAI time themselves, mlx-lm and transformers compute perplexity. The last line is JSON.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from tasks.backends import gguf, mlx, openvino
from tasks.backends import torch as torch_backend
from tasks.hardware import cores
from tasks.kinds.causal_lm import files
from tasks.kinds.causal_lm.rows import EvaluationSet, Prompts
from tasks.measure import guard
from tasks.params.load import load_params
from tasks.params.pipeline import Params
from tasks.records.base import Record
from tasks.run.child import Child, run_child
from tasks.run.workspace import Workspace
from tests.bench import harness
from tests.bench.harness import Figures, Limit, prepared, tell

ALLOWED = 0.10  # share by which a figure may differ from the ruler's
NEW_TOKENS, REPEATS = 48, 5
ROWS, MLX_ROWS, MLX_TOKENS = 10, 2, 64
VARIANTS = ("gguf-f16", "gguf-q8_0", "openvino-int8", "mlx-fp16")  # in the order in which they are made

LIMITS = {
    name: Limit(most=ALLOWED)
    for name in (
        "llama_cpp_prefill", "llama_cpp_decode", "openvino_genai_first_token", "openvino_genai_decode",
        "mlx_lm_perplexity", "transformers_perplexity",
    )
}  # fmt: skip


class RulerRequest(Record):
    """What ours and the ruler are both given."""

    artifact: Path
    threads: int
    warm_up: tuple[int, ...]
    short: tuple[tuple[int, ...], ...]
    long: tuple[tuple[int, ...], ...]
    rows: tuple[tuple[int, ...], ...]


class RulerAnswer(Record):
    """Ours and the ruler's own, samples per kind of figure."""

    samples: dict[str, list[float]]


def llama_cpp(request: RulerRequest) -> RulerAnswer:
    """Ours and llama.cpp's own: seconds to read a prompt, seconds per written token (in the child)."""
    import llama_cpp

    session = gguf.speaker(request.artifact, request.threads)
    context = session._llama._ctx.ctx
    found: dict[str, list[float]] = {"prefill": [], "prefill_ruler": [], "decode": [], "decode_ruler": []}
    session.generate(request.warm_up, 4)
    for ids in request.long:
        llama_cpp.llama_perf_context_reset(context)
        found["prefill"].append(_seconds(lambda ids=ids: session.prefill(ids)))
        found["prefill_ruler"].append(llama_cpp.llama_perf_context(context).t_p_eval_ms / 1e3)
    for ids in request.short:
        llama_cpp.llama_perf_context_reset(context)
        found["decode"].append(_per_token(session, ids))
        told = llama_cpp.llama_perf_context(context)
        found["decode_ruler"].append(told.t_eval_ms / told.n_eval / 1e3)
    return RulerAnswer(samples=found)


def openvino_genai(request: RulerRequest) -> RulerAnswer:
    """Ours and OpenVINO GenAI's own: seconds to the first token, seconds per further token (in the child)."""
    session = openvino.speaker(request.artifact, request.threads)
    session._pipeline = pipeline = Telling(session._pipeline)
    found: dict[str, list[float]] = {"prefill": [], "prefill_ruler": [], "decode": [], "decode_ruler": []}
    session.generate(request.warm_up, 4)
    for ids in request.long:
        found["prefill"].append(_seconds(lambda ids=ids: session.prefill(ids)))
        found["prefill_ruler"].append(pipeline.told.get_ttft().mean / 1e3)
    for ids in request.short:
        found["decode"].append(_per_token(session, ids))
        found["decode_ruler"].append(pipeline.told.get_tpot().mean / 1e3)
    return RulerAnswer(samples=found)


class Telling:
    """A pipeline that keeps what it said of its last call: asked again, a prompt would come from the prefix cache."""

    def __init__(self, pipeline: Any) -> None:
        """Stand before `pipeline`."""
        self._pipeline = pipeline
        self.told: Any = None

    def generate(self, *arguments: Any) -> Any:
        """What the pipeline answers."""
        result = self._pipeline.generate(*arguments)
        self.told = result.perf_metrics
        return result


def _seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _per_token(session: Any, ids: Sequence[int]) -> float:
    stamps: list[float] = []
    session.generate(ids, NEW_TOKENS, lambda _: stamps.append(time.perf_counter()))
    return median(later - earlier for earlier, later in pairwise(stamps))


def mlx_lm(request: RulerRequest) -> RulerAnswer:
    """Perplexity of the same rows by our scoring and by mlx_lm.perplexity (in the child)."""
    import mlx.core as mx
    from mlx_lm.perplexity import eval_ppl

    session = mlx.scorer(request.artifact, request.threads)
    rows = [row[:MLX_TOKENS] for row in request.rows if len(row) >= MLX_TOKENS][:MLX_ROWS]
    theirs, _ = eval_ppl(session._model, mx.array(rows), batch_size=1)
    return RulerAnswer(samples={"perplexity": [_perplexity(session, rows)], "perplexity_ruler": [float(theirs)]})


def transformers(request: RulerRequest) -> RulerAnswer:
    """Perplexity of the same rows by our scoring and by the loss transformers computes (in the child)."""
    import torch

    session = torch_backend.scorer(request.artifact, request.threads)
    losses, counts = [], []
    with torch.inference_mode():
        for row in request.rows:
            ids = torch.tensor([row], dtype=torch.long)
            losses.append(float(session._model(ids, labels=ids).loss) * (len(row) - 1))
            counts.append(len(row) - 1)
    return RulerAnswer(
        samples={
            "perplexity": [_perplexity(session, request.rows)],
            "perplexity_ruler": [math.exp(sum(losses) / sum(counts))],
        }
    )


def _perplexity(session: Any, rows: Sequence[Sequence[int]]) -> float:
    import numpy as np

    from tasks.kinds.causal_lm.quality import join, score_row

    tokens = join([score_row(session.score(ids), np.array(ids), None) for ids in rows])
    return float(np.exp(tokens.nll.mean()))


def beside(folder: Path, params: Params) -> Figures:
    """Every figure and its ruler's, told; returns the shares by which they differ."""
    workspace = Workspace()
    prompts, rows = (
        Prompts.read(workspace.data / files.PROMPTS),
        EvaluationSet.read(workspace.data / files.EVALUATION).rows[:ROWS],
    )
    common = {
        "threads": cores.threads(params.benchmark.threads),
        "warm_up": prompts.short[-1],
        "short": prompts.short[:REPEATS],
        "long": prompts.long[:REPEATS],
        "rows": tuple(row.ids for row in rows),
    }
    rulers = {
        "llama_cpp": (workspace.artifact_files("gguf-q8_0"), ("prefill", "decode")),
        "openvino_genai": (workspace.artifact_files("openvino-int8"), ("prefill", "decode")),
        "mlx_lm": (workspace.artifact_files("mlx-fp16"), ("perplexity",)),
        "transformers": (workspace.model, ("perplexity",)),
    }
    figures: Figures = {}
    for name, (artifact, kinds) in rulers.items():
        request = RulerRequest.model_validate(common | {"artifact": artifact})
        work = Child(
            f"tests.bench.rulers:{name}", request, params.benchmark.limits, folder / workspace.logs / f"{name}.log",
            name, cores.threads(params.benchmark.threads), timed=True,
        )  # fmt: skip
        answer = run_child(work, RulerAnswer).samples
        for kind in kinds:
            ours, theirs = median(answer[kind]), median(answer[f"{kind}_ruler"])
            words = "first_token" if (name, kind) == ("openvino_genai", "prefill") else kind
            figures[f"{name}_{words}"] = abs(ours / theirs - 1)
            unit = "" if kind == "perplexity" else " s"
            tell(f"{name} {words}: ours {ours:.4g}{unit}, its own {theirs:.4g}{unit}, n = {len(answer[kind])}")
    return figures


def bench(scratch: Path) -> Figures:
    """Make the artifacts in a fresh copy and measure them there."""
    folder = prepared(scratch / "rulers", VARIANTS)
    if folder is None:
        return dict.fromkeys(LIMITS)
    with contextlib.chdir(folder), guard.device_to_itself():
        return beside(folder, load_params())


def main(argv: Sequence[str] | None = None) -> int:
    """Run `make bench-rulers`; exit code 1 when a limit is not kept."""
    harness.parser("bench.rulers", __doc__).parse_args(argv)
    return harness.main("bench-rulers", bench, LIMITS)


if __name__ == "__main__":
    raise SystemExit(main())
