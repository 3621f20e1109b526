"""lm-eval's `local-completions` over the server: choices by the likelihood of their text. Prints what came as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager


def main(base: str, model: str, tokenizer: str, tasks: str) -> None:
    """Evaluate the task `choices` of the folder `tasks` on the server at `base`."""
    found = simple_evaluate(
        model="local-completions",
        model_args={
            "model": model,
            "base_url": f"{base}/v1/completions",
            "tokenizer": tokenizer,
            "tokenizer_backend": "huggingface",
            "max_length": 256,
            "num_concurrent": 2,
        },
        tasks=["choices"],
        task_manager=TaskManager(include_path=tasks),
        log_samples=True,
        bootstrap_iters=0,
    )
    chosen = [
        max(range(len(row["filtered_resps"])), key=lambda i, row=row: row["filtered_resps"][i][0])
        for row in sorted(found["samples"]["choices"], key=lambda row: row["doc_id"])
    ]
    Path(tasks, "found.json").write_text(
        json.dumps({"accuracy": found["results"]["choices"]["acc,none"], "chosen": chosen})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
