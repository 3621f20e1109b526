"""This project's figures beside those of outside rulers, for the same work in the same process.

llama.cpp and OpenVINO GenAI time themselves, mlx-lm and transformers compute perplexity. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from flows.bench import Limit, conclude, copy, tell, timed
from tasks import config, paths
from tasks.backends.base import backend
from tasks.config import Params
from tasks.measure import guard
from tasks.measure.child import Child, run_child
from tasks.models.text_data import EvaluationSet, Prompts
from tasks.stage import run_stage

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


def llama_cpp(request: dict[str, Any]) -> dict[str, list[float]]:
    """Ours and llama.cpp's own: seconds to read a prompt, seconds per written token (in the child)."""
    import llama_cpp

    session = backend("gguf").load(Path(request["artifact"]), request["threads"], "generate")
    context = session._llama._ctx.ctx
    found: dict[str, list[float]] = {"prefill": [], "prefill_ruler": [], "decode": [], "decode_ruler": []}
    session.generate(request["warm_up"], 4)
    for ids in request["long"]:
        llama_cpp.llama_perf_context_reset(context)
        found["prefill"].append(_seconds(lambda ids=ids: session.prefill(ids)))
        found["prefill_ruler"].append(llama_cpp.llama_perf_context(context).t_p_eval_ms / 1e3)
    for ids in request["short"]:
        llama_cpp.llama_perf_context_reset(context)
        found["decode"].append(_per_token(session, ids))
        told = llama_cpp.llama_perf_context(context)
        found["decode_ruler"].append(told.t_eval_ms / told.n_eval / 1e3)
    return found


def openvino_genai(request: dict[str, Any]) -> dict[str, list[float]]:
    """Ours and OpenVINO GenAI's own: seconds to the first token, seconds per further token (in the child)."""
    session = backend("openvino").load(Path(request["artifact"]), request["threads"], "generate")
    session._pipeline = pipeline = Telling(session._pipeline)
    found: dict[str, list[float]] = {"prefill": [], "prefill_ruler": [], "decode": [], "decode_ruler": []}
    session.generate(request["warm_up"], 4)
    for ids in request["long"]:
        found["prefill"].append(_seconds(lambda ids=ids: session.prefill(ids)))
        found["prefill_ruler"].append(pipeline.told.get_ttft().mean / 1e3)
    for ids in request["short"]:
        found["decode"].append(_per_token(session, ids))
        found["decode_ruler"].append(pipeline.told.get_tpot().mean / 1e3)
    return found


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


def mlx_lm(request: dict[str, Any]) -> dict[str, list[float]]:
    """Perplexity of the same rows by our scoring and by mlx_lm.perplexity (in the child)."""
    import mlx.core as mx
    from mlx_lm.perplexity import eval_ppl

    session = backend("mlx").load(Path(request["artifact"]), request["threads"], "score")
    rows = [row[:MLX_TOKENS] for row in request["rows"] if len(row) >= MLX_TOKENS][:MLX_ROWS]
    theirs, _ = eval_ppl(session._model, mx.array(rows), batch_size=1)
    return {"perplexity": [_perplexity(session, rows)], "perplexity_ruler": [float(theirs)]}


def transformers(request: dict[str, Any]) -> dict[str, list[float]]:
    """Perplexity of the same rows by our scoring and by the loss transformers computes (in the child)."""
    import torch

    session = backend("torch").load(Path(request["artifact"]), request["threads"], "score")
    losses, counts = [], []
    with torch.inference_mode():
        for row in request["rows"]:
            ids = torch.tensor([row], dtype=torch.long)
            losses.append(float(session._model(ids, labels=ids).loss) * (len(row) - 1))
            counts.append(len(row) - 1)
    return {
        "perplexity": [_perplexity(session, request["rows"])],
        "perplexity_ruler": [math.exp(sum(losses) / sum(counts))],
    }


def _perplexity(session: Any, rows: Sequence[Sequence[int]]) -> float:
    import numpy as np

    from tasks.measure.quality import join, score_row

    tokens = join([score_row(session.score(ids), np.array(ids), None) for ids in rows])
    return float(np.exp(tokens.nll.mean()))


def beside(folder: Path, params: Params) -> dict[str, float | None]:
    """Every figure and its ruler's, told; returns the shares by which they differ."""
    prompts, rows = Prompts.read(paths.PROMPTS), EvaluationSet.read(paths.EVALUATION_SET).rows[:ROWS]
    common = {
        "threads": config.threads(params),
        "warm_up": prompts.short[-1],
        "short": prompts.short[:REPEATS],
        "long": prompts.long[:REPEATS],
        "rows": [row.ids for row in rows],
    }
    rulers = {
        "llama_cpp": (paths.artifact_files("gguf-q8_0"), ("prefill", "decode")),
        "openvino_genai": (paths.artifact_files("openvino-int8"), ("prefill", "decode")),
        "mlx_lm": (paths.artifact_files("mlx-fp16"), ("perplexity",)),
        "transformers": (paths.MODEL, ("perplexity",)),
    }
    figures: dict[str, float | None] = {}
    for name, (artifact, kinds) in rulers.items():
        request = common | {"artifact": str(artifact)}
        work = Child(
            f"flows.bench_rulers:{name}", request, params.benchmark.limits, folder / paths.LOGS / f"{name}.log", name,
            config.threads(params), timed=True,
        )  # fmt: skip
        answer = run_child(work)
        for kind in kinds:
            ours, theirs = median(answer[kind]), median(answer[f"{kind}_ruler"])
            words = "first_token" if (name, kind) == ("openvino_genai", "prefill") else kind
            figures[f"{name}_{words}"] = abs(ours / theirs - 1)
            unit = "" if kind == "perplexity" else " s"
            tell(f"{name} {words}: ours {ours:.4g}{unit}, its own {theirs:.4g}{unit}, n = {len(answer[kind])}")
    return figures


def bench(root: Path, scratch: Path) -> dict[str, float | None]:
    """Make the artifacts in a fresh copy and measure them there."""
    folder = copy(root, scratch / "rulers")
    for stage in ("code", "detect", "fetch", "data", "reference", "assess"):
        if timed(folder, "-m", f"tasks.{stage}") is None:
            return dict.fromkeys(LIMITS)
    for variant in VARIANTS:
        if timed(folder, "-m", "tasks.convert", "--variant", variant) is None:
            return dict.fromkeys(LIMITS)
    with contextlib.chdir(folder), guard.device_to_itself():
        return beside(folder, config.load())


def parser() -> argparse.ArgumentParser:
    """Command line of `make bench-rulers`."""
    return argparse.ArgumentParser(prog="python -m flows.bench_rulers", description=__doc__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; exit code 1 when a limit is not kept."""
    parser().parse_args(argv)

    def work() -> int:
        with tempfile.TemporaryDirectory(prefix="edgewright-rulers-") as scratch:
            figures = bench(Path.cwd(), Path(scratch))
        return conclude("bench-rulers", figures, LIMITS)

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
