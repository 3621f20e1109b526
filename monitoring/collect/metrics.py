"""Every metric that is watched, once: windows, alert rules, Grafana panels and Prometheus rules come from this list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["performance", "quality", "resources", "business", "security"]
SPAN = "5m"  # of Prometheus' rates


@dataclass(frozen=True)
class Metric:
    """One figure of a window."""

    name: str  # in windows and in the rules of params.yaml
    title: str
    unit: str  # in Grafana's words
    group: Group
    promql: str = ""  # the same from /metrics; empty where only the prediction log or the machine tells
    own: bool = False  # what is usual of one version says nothing of another: a larger one is no fault


def _quantile(share: float, series: str, factor: int = 1000) -> str:
    inner = f"sum by (le) (rate(edgewright_{series}_bucket[{SPAN}]))"
    return f"{factor} * histogram_quantile({share}, {inner})"


def _sum(series: str) -> str:
    """A rate over all servers; 0 where nothing of the kind was ever counted."""
    return f"(sum(rate(edgewright_{series}[{SPAN}])) or vector(0))"


def _share(some: str, of: str) -> str:
    return f"{some} / clamp_min({of}, 0.001)"


ASKED, BUSY = _sum("requests_total"), _sum('errors_total{kind="busy"}')


def _by_version(series: str) -> str:
    """Of each version by itself: in a ramp two are served, and one that was not there before is compared with none."""
    return f"sum by (version) (edgewright_{series} * on (job, instance) group_left (version) edgewright_model_info)"


def _rate(kinds: str) -> str:
    # Such calls are refused before they count as requests; without them in the sum the share would pass 100%.
    bad = _sum(f'errors_total{{kind=~"{kinds}"}}')
    return _share(bad, f"{ASKED} + {bad}")


def _quantiles(name: str, title: str, series: str) -> tuple[Metric, ...]:
    return tuple(
        Metric(f"{name}_p{round(100 * share)}_ms", f"{title}, {share:.0%} of requests below", "ms", "performance",
               _quantile(share, series))
        for share in (0.5, 0.95, 0.99)
    )  # fmt: skip


METRICS: tuple[Metric, ...] = (
    *_quantiles("first_token", "Time to first token", "time_to_first_token_seconds"),
    *_quantiles("inter_token", "Time between tokens", "inter_token_seconds"),
    *_quantiles("whole", "Time of a request", "request_seconds"),
    Metric("queue_p95_ms", "Wait for a place, 95% below", "ms", "performance", _quantile(0.95, "queue_seconds")),
    Metric("requests_per_s", "Requests per second", "reqps", "performance",
           f"sum(rate(edgewright_requests_total[{SPAN}]))"),
    Metric("tokens_per_s", "Written tokens per second", "none", "performance",
           f'sum(rate(edgewright_tokens_total{{kind="generated"}}[{SPAN}]))'),
    Metric("answered", "Requests that the server counted", "none", "performance",
           f"sum(increase(edgewright_requests_total[{SPAN}]))"),
    Metric("waiting", "Requests that wait", "none", "performance", "sum(edgewright_waiting)"),
    Metric("error_rate", "Requests that failed", "percentunit", "performance",
           _share(f"""({_sum('requests_total{outcome!~"ok|gone-away"}')} + {BUSY})""", f"{ASKED} + {BUSY}")),
    Metric("confidence_p50", "Confidence, the middle one", "percentunit", "quality"),
    Metric("confidence_p5", "Confidence, 5% below", "percentunit", "quality"),
    Metric("accuracy", "Right answers, of those that callers judged", "percentunit", "quality"),
    Metric("ready", "Ready", "bool", "resources", "max(edgewright_ready)"),
    Metric("memory_mb", "Memory of the server", "decmbytes", "resources",
           f"{_by_version('model_memory_bytes')} / 1e6", own=True),
    Metric("cpu_share", "Processors taken by the server", "percentunit", "resources"),
    Metric("others_share", "Processors taken by others", "percentunit", "resources"),
    Metric("restarts", "Times the model was started again", "none", "resources",
           "sum(edgewright_model_restarts)"),
    Metric("log_lines_lost", "Lines of logs that found no room", "none", "resources",
           "sum(edgewright_log_lines_lost)"),
    Metric("energy_j_per_request", "Energy of a request", "joule", "resources"),
    Metric("clients", "Callers", "none", "business"),
    Metric("requests_per_client", "Requests of a caller, the busiest", "none", "business"),
    Metric("cost_per_1000", "Cost of 1,000 requests", "currencyUSD", "business"),
    Metric("unauthorized_rate", "Calls without a right key", "percentunit", "security", _rate("unauthorized")),
    Metric("too_large_rate", "Bodies that were too large", "percentunit", "security", _rate("too-large|too-slow")),
    Metric("malformed_rate", "Bodies that made no sense", "percentunit", "security", _rate("malformed")),
    Metric("suspicious_rate", "Prompt injection attempts", "percentunit", "security",
           _share(_sum("suspicious_total"), ASKED)),
)  # fmt: skip
BY_NAME = {metric.name: metric for metric in METRICS}
