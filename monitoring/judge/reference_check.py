"""Where nobody labels answers: a sample of them read by the fp32 reference, in a process of its own.

Of each answer's tokens, how many the reference would have written as well (its likeliest token, given all before it),
and how sure of them it is (perplexity). A model that is as it was when it passed its gates keeps both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from monitoring.collect.signals import Signal
from tasks.backends.table import tokens
from tasks.hardware import cores
from tasks.kinds.causal_lm.chat import Text
from tasks.params.pipeline import Limits
from tasks.params.watching import Drift
from tasks.records.base import Record
from tasks.run.child import Child, run_child

NAME = "likeness to the reference"
LONGEST = 512  # tokens of prompt and answer
FEWEST = 4  # answers on each side, before they are compared
LIMITS = Limits(timeout_s=300.0, memory_mb=8000.0)


class LoggedAnswer(Record):
    """One logged request with its texts."""

    prompt: str
    answer: str
    chat: bool


class AnswerScore(Record):
    """What the reference says of one answer."""

    agreement: float  # share of its tokens that are the reference's likeliest
    perplexity: float


def read(model: Path, tokenizer: Path, asked: Sequence[LoggedAnswer], log: Path) -> tuple[AnswerScore, ...]:
    """Let the reference read answers; raises ChildError where it cannot be loaded or takes too long."""
    request = ReadRequest(model=model, tokenizer=tokenizer, asked=tuple(asked), threads=cores.usable_cores())
    work = Child("monitoring.judge.reference_check:score", request, LIMITS, log, "reference reads answers")
    return run_child(work, ReadAnswer).found


class ReadRequest(Record):
    """Let the reference read answers."""

    model: Path
    tokenizer: Path
    asked: tuple[LoggedAnswer, ...]
    threads: int


class ReadAnswer(Record):
    """What the reference found, in the order of what was asked; what has no answer to read is left out."""

    found: tuple[AnswerScore, ...]


def score(request: ReadRequest) -> ReadAnswer:
    """Agreement and perplexity of each answer (in the child)."""
    import numpy as np
    from scipy.special import log_softmax

    text = Text(request.tokenizer, True)
    module = tokens("torch")
    module.import_runtime()
    session = module.scorer(request.model, request.threads)
    found = []
    for one in request.asked:
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
        found.append(AnswerScore(agreement=agreement, perplexity=math.exp(-float(logprobs.mean()))))
    session.close()
    return ReadAnswer(found=tuple(found))


def compare(reference: Sequence[float], current: Sequence[float], settings: Drift) -> Signal:
    """Agreements of a window against those of the first one, by Mann and Whitney's test (1947).

    >>> compare([0.9, 0.8, 0.95, 0.85] * 5, [0.2, 0.1, 0.3, 0.2] * 5, Drift()).drifted
    True
    >>> compare([0.9, 0.8, 0.95, 0.85] * 5, [0.9, 0.85, 0.8, 0.95] * 5, Drift()).drifted
    False
    """
    from statistics import fmean

    from scipy.stats import mannwhitneyu

    limit = settings.max_accuracy_drop
    if min(len(reference), len(current)) < FEWEST:
        note = f"{len(current)} answers were read, {len(reference)} of the first window; {FEWEST} are needed"
        return Signal(name=NAME, family="performance", effect=None, limit=limit, p_value=None, drifted=False,
                      rows=len(current), note=note)  # fmt: skip
    fewer = fmean(reference) - fmean(current)
    p_value = float(mannwhitneyu(current, reference, alternative="less").pvalue)
    drifted = fewer >= limit and p_value < 1 - settings.confidence
    return Signal(name=NAME, family="performance", effect=round(fewer, 4), limit=limit, p_value=p_value,
                  drifted=drifted, rows=len(current))  # fmt: skip
