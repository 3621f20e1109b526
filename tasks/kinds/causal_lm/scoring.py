"""Score a language model: rows of text and choices, in looks, until the gates are decided; and answers in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends import table
from tasks.backends.base import TokenScorer
from tasks.kinds.base import Answered, ReferenceRequest, ScoreRequest
from tasks.kinds.causal_lm import answers, files
from tasks.kinds.causal_lm import quality as qualities
from tasks.kinds.causal_lm.choices import Chosen, TaskAccuracy, choose, compare_choices
from tasks.kinds.causal_lm.describing import read_config
from tasks.kinds.causal_lm.figures import answering, counts, figures
from tasks.kinds.causal_lm.quality import Quality, Tokens, join, log_softmax, score_row, score_rows
from tasks.kinds.causal_lm.rows import EvaluationSet, Probe
from tasks.kinds.causal_lm.tasks import TaskSet
from tasks.kinds.causal_lm.tokens import decoder
from tasks.measure.looks import Limit, Look, looks
from tasks.measure.looks import undecided as open_metrics
from tasks.measure.statistics import LEVEL
from tasks.records.quality import Evaluation
from tasks.run.disk import require_disk

REFERENCE_BACKEND = "torch"
SLOW_ANSWER = 8  # tokens of the one answer of a runtime that is slow here
PROBE_ANSWER_TOKENS = 24
SCORES: tuple[str, ...] = (str(files.TOKENS), str(files.CHOICES), str(files.ANSWERS))


def refer(request: ReferenceRequest) -> Answered:
    """Score evaluation rows, probe and tasks by the unquantized model in PyTorch.

    Log-probabilities are kept as float16: their rounding, at most 0.008 nats where p < 0.0003, is weighted by p in a
    KL divergence and averages out far below its standard error; perplexity and accuracy come from float32.
    """
    out, data = request.out, request.data
    rows = [np.array(row.ids) for row in EvaluationSet.read(data / files.EVALUATION).rows]
    probe = Probe.read(data / files.PROBE)
    _check_disk(request.model, out, sum(map(len, rows)) + len(probe.ids))
    backend = table.tokens(REFERENCE_BACKEND)
    session = backend.scorer(request.model, request.threads)
    tokens = _kept(session, rows, out / files.LOGPROBS)
    tokens.save(out / files.TOKENS)
    (out / files.PROBE_LOGPROBS).parent.mkdir()
    np.save(out / files.PROBE_LOGPROBS, log_softmax(session.score(probe.ids)[:-1]).astype(np.float16))
    asked = TaskSet.read(data / files.TASK_SET)
    choose(session, asked.choices).save(out / files.CHOICES)
    runtime = session.runtime()
    session.close()
    decode, speaker = decoder(request.model), backend.speaker(request.model, request.threads)
    answer = speaker.generate(probe.question_ids, PROBE_ANSWER_TOKENS)
    (out / files.PROBE_ANSWER).write_text(decode(answer), encoding="utf-8")
    answers.answer(speaker, asked.open, request.settings.answer_tokens, decode).write(out / files.ANSWERS)
    predictions = len(tokens.nll)
    return Answered(words=f"{predictions} predictions over {len(rows)} rows", runtime=runtime)


def _check_disk(model: Path, out: Path, predictions: int) -> None:
    """Raise ResourceError where the log-probabilities do not fit the disk: half a megabyte each for 262,144 tokens."""
    vocabulary = int(read_config(model).get("vocab_size") or 0)
    kept = f"the reference's {predictions:,} predictions over {vocabulary:,} tokens"
    needed = np.dtype(np.float16).itemsize * vocabulary * predictions
    require_disk(out, needed, f"to keep {kept} (fewer by data.evaluation_rows) ")


def _kept(session: TokenScorer, rows: Sequence[NDArray[np.int64]], file: Path) -> Tokens:
    """Judge every row, and write its log-probabilities into the file, one row below the other."""
    scored, start, kept = [], 0, None
    predictions = sum(len(ids) - 1 for ids in rows)
    for ids in rows:
        logits = session.score(ids.tolist())
        if kept is None:
            kept = np.lib.format.open_memmap(file, "w+", np.float16, (predictions, logits.shape[-1]))
        kept[start : start + len(ids) - 1] = log_softmax(logits[:-1])
        scored.append(score_row(logits, ids, None))
        start += len(ids) - 1
    return join(scored)


@dataclass(frozen=True)
class _Scorer:
    """A loaded artifact with what it is scored on."""

    session: TokenScorer
    rows: Sequence[Sequence[int]]
    asked: TaskSet
    logprobs: NDArray[np.floating]
    reference: tuple[Tokens, Chosen]
    longest: int  # tokens of each row; 0: all

    def on(self, look: Look, tokens: Tokens, chosen: Chosen) -> tuple[Tokens, Chosen]:
        """Score as much as the look wants, beyond what is scored."""
        more = score_rows(self.session, self.rows[: look.rows], self.logprobs, self.longest, tokens.rows)
        items = choose(self.session, self.asked.choices[len(chosen.answer) : look.choices])
        return tokens.joined(more), chosen.joined(items)


def score(request: ScoreRequest) -> Answered:
    """Score rows and items until the gates are decided, answer the prompts, and write it all into `request.out`."""
    opening, out, settings = request.opening, request.out, request.settings
    module = table.tokens(opening.backend)
    session = module.scorer(opening.artifact, opening.threads, opening.settings)
    scorer = _scorer(session, request)
    plan = planned(EvaluationSet.read(request.places.data / files.EVALUATION), scorer.asked, _few(request))
    tokens, chosen = Tokens.none(), choose(session, ())
    open_: tuple[str, ...] = ()
    for number, look in enumerate(plan):
        tokens, chosen = scorer.on(look, tokens, chosen)
        seen = figures(*compare(tokens, chosen, *scorer.reference, look.level))
        open_ = open_metrics(request.limits, seen, tokens.rows, look.level)
        if not open_:
            break
        if number + 1 < len(plan):
            print(f"look {number + 1} leaves {', '.join(open_)} undecided; scoring more", flush=True)
    runtime = session.runtime()
    session.close()
    tokens.save(out / files.TOKENS)
    chosen.save(out / files.CHOICES)
    speaker = module.speaker(opening.artifact, opening.threads, opening.settings)
    prompts, tokens_each = scorer.asked.open, settings.answer_tokens
    if request.slow:
        prompts, tokens_each = prompts[:1], min(SLOW_ANSWER, tokens_each)
    answers.answer(speaker, prompts, tokens_each, decoder(request.places.model)).write(out / files.ANSWERS)
    return Answered(
        words=_said(plan, number, open_, request),
        looks=number + 1,
        level=look.level,
        final=number + 1 == len(plan),
        runtime=runtime,
    )


def _scorer(session: TokenScorer, request: ScoreRequest) -> _Scorer:
    data, kept = request.places.data, request.places.reference
    return _Scorer(
        session=session,
        rows=[row.ids for row in EvaluationSet.read(data / files.EVALUATION).rows],
        asked=TaskSet.read(data / files.TASK_SET),
        logprobs=np.load(kept / files.LOGPROBS, mmap_mode="r"),
        reference=(Tokens.load(kept / files.TOKENS), Chosen.load(kept / files.CHOICES)),
        longest=request.settings.slow_tokens if request.slow else 0,
    )


def _few(request: ScoreRequest) -> tuple[int, int] | None:
    return (request.settings.slow_rows, request.settings.slow_choices) if request.slow else None


def planned(evaluation: EvaluationSet, asked: TaskSet, slow: tuple[int, int] | None) -> list[Look]:
    """Plan the looks of one variant; a runtime that is slow here has one, at few rows and items."""
    if slow:
        return looks((min(slow[0], len(evaluation.rows)),), (min(slow[1], len(asked.choices)),))
    return looks(evaluation.looks, asked.looks)


def _said(plan: Sequence[Look], number: int, open_: Sequence[str], request: ScoreRequest) -> str:
    look = plan[number]
    if request.slow:
        tokens = request.settings.slow_tokens
        return f"scored on the first {tokens} tokens of the first {look.rows} rows: slow without its accelerator"
    if number + 1 < len(plan):
        return f"decided by {look.rows} rows and {look.choices} choices"
    rest = f", which leave {', '.join(open_)} undecided" if open_ else ""
    return f"scored on all rows{rest}"


def compare(
    tokens: Tokens, chosen: Chosen, reference: Tokens, reference_chosen: Chosen, level: float
) -> tuple[Quality, TaskAccuracy | None]:
    """Quality on running text and, where there are items, accuracy in choosing, of what both scored."""
    items = len(chosen.answer)
    accuracy = compare_choices(chosen, reference_chosen.first(items), level) if items else None
    return qualities.summarise(tokens, reference.like(tokens)), accuracy


def summarise(scores: Path, reference: Path, level: float = LEVEL) -> dict[str, Any]:
    """Compare a folder of scores with the reference's on the same tokens and items: fields of the Evaluation."""
    quality, accuracy = compare(
        Tokens.load(scores / files.TOKENS),
        Chosen.load(scores / files.CHOICES),
        Tokens.load(reference / files.TOKENS),
        Chosen.load(reference / files.CHOICES),
        level,
    )
    said = answers.beside(answers.Answers.read(scores / files.ANSWERS), answers.Answers.read(reference / files.ANSWERS))
    said.write(scores / files.ANSWERS)
    return {
        "figures": figures(quality, accuracy) | answering(said),
        "counts": counts(quality, accuracy) | {"answers": len(said.answers)},
    }


def undecided(known: Evaluation, limits: Sequence[Limit]) -> tuple[str, ...]:
    """Metrics that the scores of a record do not decide under the gates as they are now."""
    return open_metrics(limits, known.figures, known.counts.get("rows", 0), known.level)
