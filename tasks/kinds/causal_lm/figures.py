"""What a causal language model's scores say, as estimates by the names of its metric catalogue."""

from __future__ import annotations

from tasks.kinds.causal_lm.answers import Answers
from tasks.kinds.causal_lm.choices import TaskAccuracy
from tasks.kinds.causal_lm.quality import Quality
from tasks.measure.statistics import smallest_sample
from tasks.records.base import Estimate


def figures(quality: Quality, accuracy: TaskAccuracy | None) -> dict[str, Estimate]:
    """Quality on running text, nats and shares, and in choosing where there was something to choose."""
    few = f"n too small: {quality.predictions} predictions, {smallest_sample(0.99)} carry a 99th percentile"
    found = {
        "perplexity": Estimate(value=quality.perplexity, se=quality.perplexity_se),
        "perplexity_ratio": Estimate(value=quality.perplexity_ratio, se=quality.perplexity_ratio_se),
        "next_token_accuracy": Estimate(value=quality.next_token_accuracy),
        "retention": Estimate(value=quality.retention, se=quality.retention_se),
        "top_agreement": Estimate(value=quality.top_agreement, se=quality.top_agreement_se),
        "mean_kl": Estimate(value=quality.mean_kl, se=quality.mean_kl_se),
        "median_kl": Estimate(value=quality.median_kl),
        "p99_kl": Estimate(value=quality.p99_kl, reason=few if quality.p99_kl is None else ""),
    }
    return found | (_choosing(accuracy) if accuracy is not None else {})


def _choosing(accuracy: TaskAccuracy) -> dict[str, Estimate]:
    low, high = accuracy.task_retention_low, accuracy.task_retention_high
    return {
        "task_accuracy": Estimate(value=accuracy.task_accuracy),
        "task_retention": Estimate(value=accuracy.task_retention, low=low, high=high),
        "mcnemar_p": Estimate(value=accuracy.mcnemar_p),
    }


def counts(quality: Quality, accuracy: TaskAccuracy | None) -> dict[str, int]:
    """Count what the figures were estimated from: rows, predictions, choices, and flips against the reference."""
    found = {"rows": quality.rows, "predictions": quality.predictions}
    if accuracy is not None:
        lost, gained = accuracy.flips_lost, accuracy.flips_gained
        found |= {"choices": accuracy.choices, "flips_lost": lost, "flips_gained": gained}
    return found


def answering(written: Answers) -> dict[str, Estimate]:
    """Compare answers in words, 0 to 1, with the reference's and with the user's own where there are such."""
    alike = {"answer_similarity": written.similarity, "answer_similarity_expected": written.similarity_expected}
    return {name: Estimate(value=value) for name, value in alike.items() if value is not None}
