"""How each figure is written: with the digits and signs of its form in the metric catalogue."""

from __future__ import annotations

import math
from collections.abc import Callable

from tasks.kinds.catalogue import MetricSpec

NOT_MEASURED = "n/m"
NOTHING = "–"

PERCENTS = ("percent", "change", "share")  # forms whose limits people write in percent


def figure(spec: MetricSpec, number: float) -> str:
    """Write a metric's value with the digits it deserves.

    >>> from tasks.kinds.table import catalogue
    >>> known = catalogue()
    >>> figure(known["perplexity_ratio"], 1.0107), figure(known["retention"], 0.9961), figure(known["mean_kl"], 0.00704)
    ('1.011', '99.6%', '0.0070')
    >>> figure(known["decode_speedup"], 4.94), figure(known["memory_share"], 0.401)
    ('4.9×', '40%')
    >>> figure(known["decode_tokens_per_s"], 77.13), figure(known["peak_rss_mb"], 461.8)
    ('77.1', '462')
    """
    if not math.isfinite(number):
        return NOTHING
    writers: dict[str, Callable[[float], str]] = {
        "count": "{:g}".format,
        "change": "{:+.1%}".format,
        "times": times,
        "share": "{:.0%}".format,
        "percent": "{:.1%}".format,
        "ratio": "{:.3f}".format,
        "small": small,
        "whole": lambda value: f"{value:.0f}" if abs(value) >= 10 else plain(value),
        "plain": plain,
    }
    return writers[spec.form](number)


def times(number: float) -> str:
    """Write a factor: how many times as fast.

    >>> times(4.94), times(0.97), times(126.4)
    ('4.9×', '0.97×', '126×')
    """
    return f"{number:.{2 if number < 1 else 1 if number < 100 else 0}f}×"


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


def error(spec: MetricSpec, se: float) -> str:
    """Write a standard error in the digits of its value, without the leading zero.

    >>> from tasks.kinds.table import catalogue
    >>> error(catalogue()["perplexity_ratio"], 0.0012), error(catalogue()["retention"], 0.0021)
    ('±.001', '±0.2')
    """
    if spec.form in PERCENTS:
        return f"±{se:.1%}".removesuffix("%")
    return "±" + figure(spec, se).removeprefix("0")


def limit(spec: MetricSpec, number: float) -> str:
    """Write a gate's limit as the user would: 2×, 95%, 1.1.

    >>> from tasks.kinds.table import catalogue
    >>> known = catalogue()
    >>> limit(known["decode_speedup"], 2.0), limit(known["retention"], 0.95), limit(known["perplexity_ratio"], 1.1)
    ('2×', '95%', '1.1')
    """
    if spec.form == "times":
        return f"{number:g}×"
    return f"{number * 100:.6g}%" if spec.form in PERCENTS else f"{number:g}"
