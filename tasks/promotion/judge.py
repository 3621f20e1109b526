"""Whether a canary is as good as the baseline beside it, on their shares of the same traffic. Pure.

Both arms are judged over the same time, so that a busy hour is nobody's fault. Three verdicts as in the gates: pass
when it is shown that the canary is not worse by more than the margin, fail when it is shown that it is, else
inconclusive, and more traffic is needed. `looks` is how often the arms may be looked at: each look has its share of the
error rate (Bonferroni), as a verdict is taken at the first that is not inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.measure.statistics import wilson

Outcome = Literal["pass", "fail", "inconclusive"]
LEVEL = 0.95
CERTAIN = 0.999  # before a breach is called that
FEW = 10  # requests or pairs, before anything is


@dataclass(frozen=True)
class Arm:
    """Evidence of one share of the traffic."""

    requests: int
    errors: int
    first_ms: Sequence[float] = ()  # of the requests that were answered
    between_ms: Sequence[float] = ()
    # Of requests that both versions were asked: the canary's confidence over the baseline's (a confidence is the
    # geometric mean of the tokens' probabilities, a proxy of quality), and how like the answers are, 0 to 1.
    confidence: Sequence[float] = ()
    agreement: Sequence[float] = ()


@dataclass(frozen=True)
class Margins:
    """By how much a canary may be worse."""

    min_requests: int = 50  # requests of each arm before anything is judged
    max_more_errors: float = 0.02  # share of failed requests beyond the baseline's
    max_latency_ratio: float = 1.25  # median latency, as a multiple of the baseline's
    first_token_grace_ms: float = 0.0  # a first token that is later by no more than this is not slower
    max_confidence_drop: float = 0.2  # share of the baseline's confidence that may be lost
    min_agreement: float = 0.3  # mean likeness to the baseline's answers, 0 to 1
    writes: bool = True  # text, token by token; what maps rows is not timed between tokens
    max_errors: float = 0.2  # share of failed requests past which nothing is waited for, whatever the baseline does


@dataclass(frozen=True)
class Judgement:
    """The verdict and, per measure, its own and why."""

    outcome: Outcome
    measures: dict[str, Outcome]
    reasons: tuple[str, ...]


def judge(baseline: Arm, canary: Arm, margins: Margins, looks: int = 1) -> Judgement:
    """Errors by the difference of two shares, latencies and confidence by a rank test against the margin."""
    if beyond := breach(baseline, canary, margins):
        return beyond
    short = [
        f"{name} has {arm.requests} requests of {margins.min_requests}"
        for name, arm in (("baseline", baseline), ("canary", canary))
        if arm.requests < margins.min_requests
    ]
    if short:
        return Judgement("inconclusive", {}, tuple(short))
    level, grace = 1 - (1 - LEVEL) / looks, margins.first_token_grace_ms
    found = {
        "errors": errors(baseline, canary, margins.max_more_errors, level),
        "first token": slower(baseline.first_ms, canary.first_ms, margins.max_latency_ratio, level, grace),
        "between tokens": slower(baseline.between_ms, canary.between_ms, margins.max_latency_ratio, level),
        "confidence": unsure(canary.confidence, 1 - margins.max_confidence_drop, level),
        "agreement": unlike(canary.agreement, margins.min_agreement, level),
    }
    if not margins.writes:
        del found["between tokens"]
        if not canary.confidence:  # of outputs that are no classes there is none
            del found["confidence"]
    measures = {name: outcome for name, (outcome, _) in found.items()}
    outcomes = set(measures.values())
    whole: Outcome = "fail" if "fail" in outcomes else "inconclusive" if "inconclusive" in outcomes else "pass"
    return Judgement(whole, measures, tuple(f"{name}: {said}" for name, (_, said) in found.items()))


def breach(baseline: Arm, canary: Arm, margins: Margins) -> Judgement | None:
    """What cannot wait for a look: errors, or a canary that is beyond twice what is allowed without much of a doubt."""
    if canary.requests >= FEW and canary.errors / canary.requests > margins.max_errors:
        said = f"{canary.errors} of {canary.requests} requests failed, more than {margins.max_errors:.0%}"
        return Judgement("fail", {"errors": "fail"}, (said,))
    found = {}
    if len(canary.first_ms) >= FEW:
        found["first token"] = slower(
            baseline.first_ms, canary.first_ms, 2 * margins.max_latency_ratio, CERTAIN, 2 * margins.first_token_grace_ms
        )
    if len(canary.between_ms) >= FEW:
        found["between tokens"] = slower(baseline.between_ms, canary.between_ms, 2 * margins.max_latency_ratio, CERTAIN)
    if len(canary.confidence) >= FEW:
        found["confidence"] = unsure(canary.confidence, 1 - 2 * margins.max_confidence_drop, CERTAIN)
    if len(canary.agreement) >= FEW:
        found["agreement"] = unlike(canary.agreement, margins.min_agreement / 2, CERTAIN)
    beyond = {name: said for name, (outcome, said) in found.items() if outcome == "fail"}
    if not beyond:
        return None
    return Judgement("fail", dict.fromkeys(beyond, "fail"), tuple(f"{name}: {said}" for name, said in beyond.items()))


def unsure(ratios: Sequence[float], least: float, level: float) -> tuple[Outcome, str]:
    """Whether confidences, pair by pair, are at least so many times the baseline's (Wilcoxon's signed ranks, 1945).

    Paired, as prompts differ more in how sure a model can be than versions do.

    >>> unsure([1.0, 0.9, 1.1] * 10, 0.8, 0.95)[0], unsure([0.3, 0.4, 0.2] * 10, 0.8, 0.95)[0]
    ('pass', 'fail')
    """
    from statistics import median

    from scipy.stats import wilcoxon

    apart = [math.log(ratio / least) for ratio in ratios if ratio > 0]
    if len(apart) < 2:
        return "inconclusive", "no two answers were compared"
    said = f"median {median(ratios):.2f} times in {len(ratios)} pairs, at least {least:.2f}"
    if float(wilcoxon(apart, alternative="less").pvalue) < 1 - level:
        return "fail", said
    return ("pass" if float(wilcoxon(apart, alternative="greater").pvalue) < 1 - level else "inconclusive"), said


def unlike(agreement: Sequence[float], least: float, level: float) -> tuple[Outcome, str]:
    """Test whether the mean likeness is at least so much, by Student's interval (1908).

    >>> unlike([0.9, 0.8, 1.0, 0.9], 0.3, 0.95)[0], unlike([0.1, 0.0, 0.1, 0.05], 0.3, 0.95)[0]
    ('pass', 'fail')
    """
    from statistics import fmean, stdev

    from scipy.stats import t

    if len(agreement) < 2:
        return "inconclusive", "no two answers were compared"
    n, mean = len(agreement), fmean(agreement)
    reach = float(t.ppf((1 + level) / 2, n - 1)) * stdev(agreement) / math.sqrt(n)
    said = f"answers are alike by {mean:.2f} ± {reach:.2f} in {n} pairs, at least {least:.2f}"
    return ("fail" if mean + reach < least else "pass" if mean - reach >= least else "inconclusive"), said


def errors(baseline: Arm, canary: Arm, margin: float, level: float) -> tuple[Outcome, str]:
    """Compare error rates by Newcombe's interval of the difference of two shares (1998, method 10).

    >>> errors(Arm(500, 2), Arm(500, 3), 0.02, 0.95)[0], errors(Arm(100, 0), Arm(100, 30), 0.02, 0.95)[0]
    ('pass', 'fail')
    """
    ours, theirs = canary.errors / canary.requests, baseline.errors / baseline.requests
    (low_o, high_o), (low_t, high_t) = (wilson(arm.errors, arm.requests, level) for arm in (canary, baseline))
    difference = ours - theirs
    low = difference - math.hypot(ours - low_o, high_t - theirs)
    high = difference + math.hypot(high_o - ours, theirs - low_t)
    said = f"{ours:.2%} against {theirs:.2%}, difference [{low:+.2%}, {high:+.2%}], allowed {margin:.0%}"
    return ("fail" if low > margin else "pass" if high <= margin else "inconclusive"), said


def least_requests(margin: float, looks: int) -> int:
    """So many requests without an error show that no more than `margin` of them fail, at one look of `looks`.

    >>> least_requests(0.15, 5), least_requests(0.02, 5)
    (38, 326)
    """
    from scipy.stats import norm

    z = float(norm.ppf(1 - (1 - LEVEL) / looks / 2))
    return math.ceil(z * z * (1 / margin - 1))


def slower(
    base: Sequence[float], other: Sequence[float], factor: float, level: float, grace: float = 0.0
) -> tuple[Outcome, str]:
    """Test whether `other` is larger than `factor` times `base`, by Mann and Whitney (1947) against that factor.

    Both sides are tested: fail when `other` is shown to be beyond the factor, pass when it is shown to be within it.
    What is later by no more than `grace` (in the unit of both) is within it, however small `base` is.

    >>> slower([1.0, 1.1] * 20, [3.0, 3.1] * 20, 1.25, 0.95)[0], slower([1.0] * 40, [3.0] * 40, 1.25, 0.95, 5.0)[0]
    ('fail', 'pass')
    """
    from statistics import median

    from scipy.stats import mannwhitneyu

    if not base or not other:
        return "inconclusive", "nothing was measured"
    scaled = [max(factor * value, value + grace) for value in base]
    later = f" or {grace:g} later" if grace else ""
    said = f"median {median(other):.4g} against {median(base):.4g}, allowed {factor:.2f} times{later}"
    if float(mannwhitneyu(other, scaled, alternative="greater").pvalue) < 1 - level:
        return "fail", said
    within = float(mannwhitneyu(other, scaled, alternative="less").pvalue) < 1 - level
    return ("pass" if within else "inconclusive"), said
