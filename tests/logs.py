"""Made-up prediction logs: what ordinary traffic looks like, and ways in which it becomes other."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tasks.serve.log.prediction_log import NAME, Prediction
from tasks.serve.log.sketch import WIDTH


def traffic(
    count: int, began: float, seconds: float, seed: int = 0, version: str = "3", **shift: float
) -> list[dict[str, Any]]:
    """Requests at random moments of a span, as dictionaries of a log's lines.

    `shift`: how many standard deviations a column is off, times how much slower, the share of errors.
    """
    dice = np.random.default_rng(seed)
    made = []
    for number, when in enumerate(np.sort(dice.uniform(began, began + seconds, count))):
        slow = shift.get("slow", 1.0)
        first, between = float(dice.lognormal(4.0, 0.2)) * slow, float(dice.lognormal(2.3, 0.1)) * slow
        tokens = int(dice.integers(8, 40))
        whole = first + between * (tokens - 1)
        bad = dice.random() < shift.get("errors", 0.0)
        made.append(
            Prediction(
                request_id=f"req-{seed}-{number}",
                when=datetime.fromtimestamp(when - whole / 1e3, UTC).isoformat(timespec="milliseconds"),
                version=version, slot="blue", endpoint="/v1/completions", outcome="worker" if bad else "ok",
                finish="length", prompt_sha256="0" * 64, prompt_tokens=max(1, int(dice.normal(80, 20))),
                new_tokens=tokens, queue_ms=0.1, first_token_ms=first, inter_token_ms=between, whole_ms=whole,
                confidence=float(np.clip(dice.normal(0.6, 0.1) + 0.1 * shift.get("confidence", 0.0), 0, 1)),
                rarity=float(dice.normal(6.0, 0.3) + 0.3 * shift.get("rarity", 0.0)),
                sketch=tuple(float(x) for x in dice.normal(shift.get("content", 0.0), 1.0, WIDTH)),
                client=f"client-{dice.integers(5)}",
            ).model_dump(exclude_none=True)
        )  # fmt: skip
    return made


def write(folder: Path, rows: Iterable[dict[str, Any]], name: str = NAME) -> Path:
    """Append lines to a log."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    with file.open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    return file
