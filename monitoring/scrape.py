"""What /metrics says at one moment, and what happened between two: counters that began anew are no step back."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from tasks.errors import DataError

Labels = tuple[tuple[str, str], ...]
PATHS = {"": "/metrics", "blue": "/metrics/blue", "green": "/metrics/green"}
MOST_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Scrape:
    """Every series with its value."""

    when: float  # seconds since the epoch
    series: Mapping[tuple[str, Labels], float] = field(default_factory=dict)

    def of(self, name: str, labels: Mapping[str, str]) -> Iterator[tuple[Labels, float]]:
        """Series of a name that have these labels."""
        for (own, had), value in self.series.items():
            if own == name and all(dict(had).get(key) == wanted for key, wanted in labels.items()):
                yield had, value


def parse(text: str, when: float, **more: str) -> Scrape:
    """Read Prometheus' text format, with `more` labels on every series; raises DataError for what is none.

    >>> parse('a_total{kind="x"} 2', 0.0).series
    {('a_total', (('kind', 'x'),)): 2.0}
    """
    found: dict[tuple[str, Labels], float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = tuple(sorted({**sample.labels, **more}.items()))
                found[sample.name, labels] = float(sample.value)
    except (ValueError, KeyError, IndexError) as problem:
        raise DataError(f"this is not Prometheus' text format: {problem}") from problem
    return Scrape(when, found)


def fetch(base: str, timeout_s: float = 5.0) -> Scrape | None:
    """What a server, or a router and its slots, say now; None where nothing answers."""
    found: dict[tuple[str, Labels], float] = {}
    answered = False
    for slot, path in PATHS.items():
        try:
            with urllib.request.urlopen(f"{base}{path}", timeout=timeout_s) as answer:  # noqa: S310 - the user's own address
                text = answer.read(MOST_BYTES).decode("utf-8", "replace")
            found |= parse(text, 0.0, **({"slot": slot} if slot else {})).series
            answered = True
        except (urllib.error.URLError, OSError, ValueError, DataError):
            continue
    return Scrape(time.time(), found) if answered else None


def value(scrape: Scrape, name: str, **labels: str) -> float | None:
    """The sum over series that match; None where there is none.

    >>> one = parse('a{k="x"} 2\\na{k="y"} 3', 0.0)
    >>> value(one, "a"), value(one, "a", k="y"), value(one, "b")
    (5.0, 3.0, None)
    """
    found = [one for _, one in scrape.of(name, labels)]
    return sum(found) if found else None


def increase(before: Scrape, after: Scrape, name: str, **labels: str) -> float:
    """By how much counters grew, series by series; one below where it stood began anew with its server.

    >>> increase(parse("a_total 5", 0.0), parse("a_total 7", 1.0), "a_total")
    2.0
    >>> increase(parse("a_total 5", 0.0), parse("a_total 2", 1.0), "a_total")
    2.0
    """
    old = dict(before.of(name, labels))
    return sum(_grown(old.get(had, 0.0), now) for had, now in after.of(name, labels))


def _grown(before: float, now: float) -> float:
    return now - before if now >= before else now


def quantile(before: Scrape, after: Scrape, name: str, share: float, **labels: str) -> float | None:
    """A quantile of what a histogram counted in between; None of nothing.

    Linear within the bucket, and the lower bound of the last one: Prometheus' own rule (`histogram_quantile`).

    >>> text = 'h_bucket{{le="1"}} {}\\nh_bucket{{le="2"}} {}\\nh_bucket{{le="+Inf"}} {}'
    >>> quantile(parse(text.format(0, 0, 0), 0.0), parse(text.format(0, 10, 10), 1.0), "h", 0.5)
    1.5
    """
    old = dict(before.of(f"{name}_bucket", labels))
    counts: dict[float, float] = {}
    for had, now in after.of(f"{name}_bucket", labels):
        bound = float(dict(had)["le"])
        counts[bound] = counts.get(bound, 0.0) + _grown(old.get(had, 0.0), now)
    bounds = sorted(counts)
    if not bounds or counts[bounds[-1]] <= 0:
        return None
    rank, low, below = share * counts[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if counts[bound] >= rank:
            if bound == float("inf"):
                return low
            inside = counts[bound] - below
            return low + (bound - low) * ((rank - below) / inside if inside else 1.0)
        low, below = bound, counts[bound]
    return low
