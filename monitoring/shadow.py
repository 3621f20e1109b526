"""Where nobody labels answers: a sample of them read by the fp32 reference, in a process of its own.

Of each answer's tokens, how many the reference would have written as well (its likeliest token, given all before it),
and how sure of them it is (perplexity). A model that is as it was when it passed its gates keeps both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monitoring.drift import Signal
from tasks import config
from tasks.backends.base import backend
from tasks.config import Drift, Limits
from tasks.measure.child import Child, run_child
from tasks.models.text import Text
from tasks.records import Record

NAME = "likeness to the reference"
LONGEST = 512  # tokens of prompt and answer
FEWEST = 4  # answers on each side, before they are compared
LIMITS = Limits(timeout_s=300.0, memory_mb=8000.0)


class Asked(Record):
    """One logged request with its texts."""

    prompt: str
    answer: str
    chat: bool


class Read(Record):
    """What the reference says of one answer."""

    agreement: float  # share of its tokens that are the reference's likeliest
    perplexity: float


def read(model: Path, tokenizer: Path, asked: Sequence[Asked], log: Path) -> tuple[Read, ...]:
    """Let the reference read answers; raises ChildError where it cannot be loaded or takes too long."""
    request = {
        "model": str(model), "tokenizer": str(tokenizer), "asked": [one.model_dump() for one in asked],
        "threads": config.usable_cores(),
    }  # fmt: skip
    answer = run_child(Child("monitoring.shadow:score", request, LIMITS, log, "reference reads answers"))
    return tuple(Read.model_validate(one) for one in answer["read"])


def score(request: dict[str, Any]) -> dict[str, Any]:
    """Agreement and perplexity of each answer (in the child)."""
    import numpy as np
    from scipy.special import log_softmax

    text = Text(Path(request["tokenizer"]), True)
    module = backend("torch")
    module.import_runtime()
    session = module.load(Path(request["model"]), request["threads"], "score", None)
    found = []
    for one in (Asked.model_validate(raw) for raw in request["asked"]):
        prompt = text.converse([{"role": "user", "content": one.prompt}]) if one.chat else text.encode(one.prompt)
        answer = text.encode(one.answer)
        ids = [*prompt, *answer][-LONGEST:]
        count = min(len(answer), len(ids) - 1)
        if count < 1:
            continue
        logits = np.asarray(session.score(ids), dtype=np.float64)[-count - 1 : -1]  # each predicts the next token
        written = np.array(ids[-count:])
        logprobs = log_softmax(logits, axis=-1)[np.arange(count), written]
        agreement = float((logits.argmax(axis=-1) == written).mean())
        found.append(Read(agreement=agreement, perplexity=math.exp(-float(logprobs.mean()))).model_dump())
    session.close()
    return {"read": found}


def compare(reference: Sequence[float], current: Sequence[float], settings: Drift) -> Signal:
    """Agreements of a window against those of the first one, by Mann and Whitney's test (1947).

    >>> compare([0.9, 0.8, 0.95, 0.85] * 5, [0.2, 0.1, 0.3, 0.2] * 5, Drift()).drifted
    True
    >>> compare([0.9, 0.8, 0.95, 0.85] * 5, [0.9, 0.85, 0.8, 0.95] * 5, Drift()).drifted
    False
    """
    from statistics import fmean

    from scipy.stats import mannwhitneyu

    limit = settings.accuracy
    if min(len(reference), len(current)) < FEWEST:
        note = f"{len(current)} answers were read, {len(reference)} of the first window; {FEWEST} are needed"
        return Signal(name=NAME, family="performance", effect=None, limit=limit, doubt=None, drifted=False,
                      rows=len(current), note=note)  # fmt: skip
    fewer = fmean(reference) - fmean(current)
    doubt = float(mannwhitneyu(current, reference, alternative="less").pvalue)
    drifted = fewer >= limit and doubt < 1 - settings.certainty
    return Signal(name=NAME, family="performance", effect=round(fewer, 4), limit=limit, doubt=doubt, drifted=drifted,
                  rows=len(current))  # fmt: skip
