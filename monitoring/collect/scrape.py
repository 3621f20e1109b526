"""What /metrics says at one moment, and what happened between two: counters that began anew are no step back."""

from __future__ import annotations

import http.client
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from tasks.errors import DataError

Labels = tuple[tuple[str, str], ...]
PATHS = {"": "/metrics", "blue": "/metrics/blue", "green": "/metrics/green"}
MOST_BYTES = 8 * 2**20
REFUSED = {  # by name, the kinds of errors that are counted for calls that never became requests
    "unauthorized": ("unauthorized",), "too_large": ("too-large", "too-slow"), "malformed": ("malformed",),
    "refused": ("busy",),
}  # fmt: skip
REQUESTS, ERRORS, READY = "edgewright_requests_total", "edgewright_errors_total", "edgewright_ready"
Series = tuple[tuple[str, Labels, float], ...]


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
                if answer.length:  # of the body, not read
                    raise DataError(f"{path} broke off, or is longer than {MOST_BYTES} bytes")
            found |= parse(text, 0.0, **({"slot": slot} if slot else {})).series
            answered = True
        except (http.client.HTTPException, OSError, ValueError, OverflowError, DataError):
            continue
    return Scrape(time.time(), found) if answered else None


def ready(base: str, timeout_s: float = 5.0) -> bool:
    """Whether callers are answered: a real answer of the server, or of the one that a router leads them to."""
    try:
        with urllib.request.urlopen(f"{base}/v2/health/ready", timeout=timeout_s) as answer:  # noqa: S310 - the user's own address
            return int(answer.status) == 200
    except (http.client.HTTPException, OSError, ValueError):
        return False


def kept(scrape: Scrape) -> Series:
    """What `counted` needs of a moment, to be written down."""
    return tuple((name, had, one) for (name, had), one in scrape.series.items() if name in (REQUESTS, ERRORS, READY))


def again(series: Series) -> Scrape:
    """What was written down."""
    return Scrape(0.0, {(name, had): one for name, had, one in series})


def counted(before: Scrape, after: Scrape) -> dict[str, float]:
    """Requests (`answered`) and refused calls, by name, between two moments."""
    found = {name: sum(increase(before, after, ERRORS, kind=kind) for kind in kinds) for name, kinds in REFUSED.items()}
    return {**found, "answered": increase(before, after, REQUESTS)}


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

    A slot that `before` does not have at all counts nothing: what it counted earlier did not happen in between.

    >>> increase(parse("a_total 5", 0.0), parse("a_total 7", 1.0), "a_total")
    2.0
    >>> increase(parse("a_total 5", 0.0), parse("a_total 2", 1.0), "a_total")
    2.0
    """
    return sum(grown for _, grown in _growth(before, after, name, labels))


def _growth(before: Scrape, after: Scrape, name: str, labels: Mapping[str, str]) -> Iterator[tuple[Labels, float]]:
    old, slots = dict(before.of(name, labels)), {_slot(had) for _, had in before.series}
    for had, now in after.of(name, labels):
        if _slot(had) in slots:
            yield had, _grown(old.get(had, 0.0), now)


def _slot(labels: Labels) -> str:
    return dict(labels).get("slot", "")


def _grown(before: float, now: float) -> float:
    return now - before if now >= before else now


def quantile(before: Scrape, after: Scrape, name: str, share: float, **labels: str) -> float | None:
    """A quantile of what a histogram counted in between; None of nothing.

    Linear within the bucket, and the lower bound of the last one: Prometheus' own rule (`histogram_quantile`).

    >>> text = 'h_bucket{{le="1"}} {}\\nh_bucket{{le="2"}} {}\\nh_bucket{{le="+Inf"}} {}'
    >>> quantile(parse(text.format(0, 0, 0), 0.0), parse(text.format(0, 10, 10), 1.0), "h", 0.5)
    1.5
    """
    counts: dict[float, float] = {}
    for had, grown in _growth(before, after, f"{name}_bucket", labels):
        bound = float(dict(had)["le"])
        counts[bound] = counts.get(bound, 0.0) + grown
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
