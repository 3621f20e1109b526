"""What to watch once the winner is deployed: baselines from the benchmark, thresholds from its spread and the gates."""

from __future__ import annotations

from typing import NamedTuple

from tasks.records import Package, Quantity
from tasks.reporting.figures import NOTHING, figure
from tasks.reporting.findings import Scores, bound_of, metric, value

SIGMAS = 3  # standard errors beyond which a quality figure is no longer the one measured here

# gate -> the metric to watch, and whether the gate's limit is a share of the reference's value of it
WATCHED: dict[str, tuple[str, bool]] = {
    "min_decode_speedup": ("decode_tokens_per_s", True),
    "min_prefill_speedup": ("prefill_tokens_per_s", True),
    "max_memory_share": ("peak_rss_mb", True),
    "max_perplexity_ratio": ("perplexity_ratio", False),
    "min_retention": ("retention", False),
}
WORDS: dict[str, tuple[str, str]] = {
    "decode_tokens_per_s": ("decode speed", " tok/s"),
    "prefill_tokens_per_s": ("prefill speed", " tok/s"),
    "time_to_first_token_ms": ("time to first token", " ms"),
    "peak_rss_mb": ("peak memory of the process", " MB"),
    "perplexity_ratio": ("perplexity ratio on the evaluation rows", ""),
    "retention": ("accuracy retention on the evaluation rows", ""),
    "top_agreement": ("same top token as the reference, on sampled traffic", ""),
}
FALLS = ("decode_tokens_per_s", "prefill_tokens_per_s", "retention", "top_agreement")  # worse when lower


class Watch(NamedTuple):
    """One figure to watch: as measured, where it leaves what was seen here, and where a gate would fail."""

    what: str
    baseline: str
    look: str
    act: str


def watch(scores: Scores, package: Package) -> list[Watch]:
    """What to watch for the winner; empty when there is none."""
    if scores.winner is None:
        return []
    limits = _limits(scores, scores.winner.variant)
    found = [_watch(scores, name, limits.get(name)) for name in WORDS]
    rows = [row for row in found if row is not None]
    if package.manifest_sha256:
        digest = f"{package.manifest_sha256[:12]}…"
        rows.append(Watch("SHA-256 of the package's manifest", digest, NOTHING, "any other: refuse to load"))
    return rows


def _watch(scores: Scores, name: str, limit: float | None) -> Watch | None:
    baseline = value(scores.winner, name)
    if baseline is None:
        return None
    words, unit = WORDS[name]
    side = "below" if name in FALLS else "above"
    edge = _edge(scores, name, baseline)
    return Watch(
        what=words,
        baseline=f"{figure(name, baseline)}{unit}",
        look=f"{side} {figure(name, edge)}{unit}" if edge is not None else NOTHING,
        act=f"{side} {figure(name, limit)}{unit}" if limit is not None else NOTHING,
    )


def _edge(scores: Scores, name: str, baseline: float) -> float | None:
    """The worst repetition seen for a timing, the baseline and some standard errors for quality, else the baseline."""
    winner = scores.winner
    record = scores.benchmarks.get(winner.variant) if winner is not None else None
    timing = getattr(record, name, None)
    if isinstance(timing, Quantity):
        return timing.low if name in FALLS else timing.high
    if name == "peak_rss_mb":
        return baseline
    se = metric(winner, name).se
    return None if se is None else baseline - SIGMAS * se if name in FALLS else baseline + SIGMAS * se


def _limits(scores: Scores, variant: str) -> dict[str, float]:
    """The gates' limits in the watched metrics' own units."""
    verdict = scores.verdict(variant)
    found: dict[str, float] = {}
    for expectation in verdict.expectations if verdict is not None else ():
        name, relative = WATCHED.get(expectation.gate, ("", False))
        bound = bound_of(expectation)
        start = value(scores.row(scores.reference), name) if relative else 1.0
        if name and bound is not None and start is not None:
            found[name] = bound * start
    return found
