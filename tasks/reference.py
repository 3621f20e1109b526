"""Reference: teacher-forced log-probabilities of the unquantized model, which every variant is compared with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tasks import config, paths
from tasks.disk import fresh_folder, replace_folder
from tasks.measure.child import Child, run_child
from tasks.stage import run_stage


def reference(params: config.Params, out: Path) -> dict[str, Any]:
    """Write the reference's folder `out`; raises ChildError when the model cannot be run."""
    partial = fresh_folder(out)
    threads = config.shared_threads()
    request = {
        "model": str(paths.MODEL),
        "data": str(paths.DATA),
        "answer_tokens": params.evaluate.answer_tokens,
        "out": str(partial),
        "threads": threads,
    }
    log = paths.LOGS / "reference.log"
    answer = run_child(Child("tasks.reference:score", request, params.evaluate.limits, log, "reference", threads))
    replace_folder(partial, out)
    return answer


def score(request: dict[str, Any]) -> dict[str, Any]:
    """Score evaluation rows and probe (in the child).

    Log-probabilities are kept as float16: their rounding, at most 0.008 nats where p < 0.0003, is weighted by p in a
    KL divergence and averages out far below its standard error; perplexity and accuracy come from float32.
    """
    import numpy as np

    from tasks.backends.base import backend
    from tasks.measure import answers
    from tasks.measure.choices import choose
    from tasks.measure.quality import join, log_softmax, score_row
    from tasks.models.task_data import TaskSet
    from tasks.models.text_data import EvaluationSet, Probe
    from tasks.models.tokens import decoder

    out, data = Path(request["out"]), Path(request["data"])
    rows = [np.array(row.ids) for row in EvaluationSet.read(data / paths.EVALUATION_SET.name).rows]
    probe = Probe.read(data / paths.PROBE.name)
    session = backend("torch").load(Path(request["model"]), request["threads"], "score")
    scored, start, kept = [], 0, None
    predictions = sum(len(ids) - 1 for ids in rows)
    for ids in rows:
        logits = session.score(ids.tolist())
        if kept is None:
            kept = np.lib.format.open_memmap(
                out / paths.REFERENCE_LOGPROBS.name, "w+", np.float16, (predictions, logits.shape[-1])
            )
        kept[start : start + len(ids) - 1] = log_softmax(logits[:-1])
        scored.append(score_row(logits, ids, None))
        start += len(ids) - 1
    join(scored).save(out / paths.REFERENCE_TOKENS.name)
    np.save(out / paths.REFERENCE_PROBE.name, log_softmax(session.score(probe.ids)[:-1]).astype(np.float16))
    decode = decoder(Path(request["model"]))
    answer = session.generate(probe.question_ids, 24)
    (out / paths.REFERENCE_ANSWER.name).write_text(decode(answer), encoding="utf-8")
    asked = TaskSet.read(data / paths.TASK_SET.name)
    choose(session, asked.choices).save(out / paths.REFERENCE_CHOICES.name)
    written = answers.answer(session, asked.open, request["answer_tokens"], decode)
    written.write(out / paths.REFERENCE_ANSWERS.name)
    return {"rows": len(rows), "predictions": predictions, "runtime": session.runtime()}


def parser() -> argparse.ArgumentParser:
    """Command line of the stage."""
    return argparse.ArgumentParser(prog="python -m tasks.reference", description=__doc__)


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    parser().parse_args(argv)

    def work() -> None:
        answer = reference(config.load(), paths.REFERENCE)
        print(f"{answer['predictions']} predictions over {answer['rows']} rows")

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
