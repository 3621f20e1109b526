"""How each figure is written: digits, units and the names of metrics and gates."""

from __future__ import annotations

import math
from typing import NamedTuple

NOT_MEASURED = "n/m"
NOTHING = "–"


COUNTS = ("stress_failures", "security_findings")
CHANGES = ("latency_drift", "memory_growth")  # shares, with their sign
PERCENT = (
    "retention",
    "top_agreement",
    "next_token_accuracy",
    "task_accuracy",
    "task_retention",
    "answer_similarity",
    "answer_similarity_expected",
)


class GateName(NamedTuple):
    """A gate in words, and in a word short enough for a table."""

    long: str
    short: str


GATES: dict[str, GateName] = {
    "min_retention": GateName("accuracy retention", "ret"),
    "max_perplexity_ratio": GateName("perplexity ratio", "ppl"),
    "max_mean_kl": GateName("KL divergence", "KL"),
    "min_task_retention": GateName("right choices", "choices"),
    "min_decode_speedup": GateName("decode speed", "decode"),
    "min_prefill_speedup": GateName("prefill speed", "prefill"),
    "min_decode_long_speedup": GateName("decode after a long prompt", "long"),
    "min_prefill_longest_speedup": GateName("prefill of the longest prompt", "longest"),
    "min_ttft_speedup": GateName("time to first token", "TTFT"),
    "min_batch_speedup": GateName("prompts at once", "batch"),
    "max_tail_ratio": GateName("slowest tokens", "tail"),
    "max_inter_token_cv": GateName("variation between tokens", "CV"),
    "max_latency_drift": GateName("latency over the soak", "drift"),
    "max_memory_growth": GateName("memory over the soak", "growth"),
    "max_stress_failures": GateName("failures under stress", "stress"),
    "max_security_findings": GateName("security findings", "security"),
    "max_energy_share": GateName("energy per token", "energy"),
    "max_artifact_share": GateName("size on disk", "size"),
    "max_memory_share": GateName("peak memory", "memory"),
}


def gate_name(gate: str) -> GateName:
    """A gate's names; an unknown gate keeps its own."""
    return GATES.get(gate, GateName(gate.replace("_", " "), gate))


def figure(metric: str, number: float) -> str:
    """Write a metric's value with the digits it deserves.

    >>> figure("perplexity_ratio", 1.0107), figure("retention", 0.9961), figure("mean_kl", 0.00704)
    ('1.011', '99.6%', '0.0070')
    >>> figure("decode_speedup", 4.94), figure("memory_share", 0.401), figure("decode_tokens_per_s", 77.13)
    ('4.9×', '40%', '77.1')
    >>> figure("prefill_speedup", 0.97), figure("peak_rss_mb", 461.8)
    ('0.97×', '462')
    """
    if not math.isfinite(number):
        return NOTHING
    if metric in COUNTS:
        return f"{number:g}"
    if metric in CHANGES:
        return f"{number:+.1%}"
    if "speedup" in metric:
        return f"{number:.{2 if number < 1 else 1 if number < 100 else 0}f}×"
    if "share" in metric:
        return f"{number:.0%}"
    if metric in PERCENT:
        return f"{number:.1%}"
    if metric == "perplexity_ratio":
        return f"{number:.3f}"
    if metric.endswith("_kl"):
        return small(number)
    if metric.endswith(("_mb", "_ms")) and abs(number) >= 10:
        return f"{number:.0f}"
    return plain(number)


def plain(number: float) -> str:
    """Three digits or so: 1729, 138, 77.1, 4.21.

    >>> plain(1729.4), plain(77.13), plain(4.2101), plain(99.96)
    ('1729', '77.1', '4.21', '100')
    """
    size = abs(number)
    return f"{number:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"


def small(number: float) -> str:
    """Two significant digits, between two and four decimals.

    >>> small(0.00704), small(0.0589), small(0.3047), small(0.0), small(0.00001)
    ('0.0070', '0.059', '0.30', '0.00', '<0.0001')
    """
    if number == 0:
        return "0.00"
    if 0 < number < 0.00005:
        return "<0.0001"
    return f"{number:.{min(4, max(2, 1 - math.floor(math.log10(abs(number)))))}f}"


def share(part: float) -> str:
    """A part of a whole in percent; one too small to show is said to be.

    >>> share(0.0551), share(0.0004)
    ('5.5%', 'under 0.1%')
    """
    return "under 0.1%" if 0 < part < 0.001 else f"{part:.1%}"


def error(metric: str, se: float) -> str:
    """Write a standard error in the digits of its value, without the leading zero.

    >>> error("perplexity_ratio", 0.0012), error("retention", 0.0021)
    ('±.001', '±0.2')
    """
    if metric == "perplexity_ratio":
        return "±" + f"{se:.3f}".removeprefix("0")
    return f"±{se:.1%}".removesuffix("%")


def limit(metric: str, number: float) -> str:
    """Write a gate's limit as the user would: 2×, 95%, 1.1.

    >>> limit("decode_speedup", 2.0), limit("retention", 0.95), limit("perplexity_ratio", 1.1)
    ('2×', '95%', '1.1')
    """
    if "speedup" in metric:
        return f"{number:g}×"
    if "share" in metric or metric in (*PERCENT, *CHANGES):
        return f"{number * 100:.6g}%"
    return f"{number:g}"
