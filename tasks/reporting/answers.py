"""How variants choose and answer beside the reference, as rows of text."""

from __future__ import annotations

from typing import NamedTuple

from tasks.records.base import Estimate
from tasks.reporting.figures import NOTHING, figure
from tasks.reporting.findings import Findings, Scores, metric, value


class Choosing(NamedTuple):
    """One variant's choices."""

    variant: str
    accuracy: str
    retention: str
    interval: str
    flips: str
    p: str
    items: str
    similarity: str


class Said(NamedTuple):
    """A variant's answer to a prompt, and how much of it the reference says too."""

    variant: str
    text: str
    similarity: str


class Prompt(NamedTuple):
    """One prompt, the expected answer where the user gave one, and all answers, the reference's first."""

    prompt: str
    expected: str
    answers: list[Said]


def choosing(scores: Scores) -> list[Choosing]:
    """A row per variant that chose or answered, in the order of the plan."""
    found, known = [], scores.known
    for row in scores.rows:
        record = scores.evaluations.get(row.variant)
        if (
            record is None
            or record.status != "ok"
            or not (record.counts.get("choices") or record.counts.get("answers"))
        ):
            continue
        kept = metric(row, "task_retention")
        similar = value(row, "answer_similarity")
        accuracy = value(row, "task_accuracy")
        counts, p = record.counts, record.figures.get("mcnemar_p", Estimate()).value
        found.append(
            Choosing(
                variant=row.variant,
                accuracy=figure(known["task_accuracy"], accuracy) if accuracy is not None else NOTHING,
                retention=figure(known["task_retention"], kept.value) if kept.value is not None else NOTHING,
                interval=f"{kept.low:.1%} to {kept.high:.1%}"
                if kept.low is not None and kept.high is not None
                else NOTHING,
                flips=f"{counts['flips_lost']} lost, {counts['flips_gained']} gained"
                if counts.get("choices")
                else NOTHING,
                p=NOTHING if p is None else "<0.001" if p < 0.001 else f"{p:.3f}",
                items=str(counts.get("choices", 0)),
                similarity=figure(known["answer_similarity"], similar) if similar is not None else NOTHING,
            )
        )
    return found


def prompts(found: Findings) -> list[Prompt]:
    """Answers side by side, a prompt at a time."""
    reference = found.answers.get(found.scores.reference)
    order = [found.scores.reference, *(r.variant for r in found.scores.rows if r.variant != found.scores.reference)]
    if "answer_similarity" not in found.scores.known:
        return []  # a kind that does not answer in words
    shown, alike = [], found.scores.known["answer_similarity"]
    for asked in reference.answers if reference is not None else ():
        said = [
            Said(
                variant=name,
                text=one.text.strip(),
                similarity=figure(alike, one.similarity) if one.similarity is not None else NOTHING,
            )
            for name in order
            if name in found.answers
            for one in found.answers[name].answers
            if one.prompt == asked.prompt
        ]
        shown.append(Prompt(asked.prompt, asked.expected, said))
    return shown
