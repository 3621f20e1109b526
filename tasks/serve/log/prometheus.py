"""What the server tells Prometheus; one registry per server, so that two in one process do not mix."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

FIRST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 30.0)
BETWEEN_S = (0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.024, 0.032, 0.05, 0.1, 0.2, 0.5, 1.0)
WHOLE_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)
BATCH = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


class Metrics:
    """Every series; `edgewright_model_info` carries version, variant and backend."""

    def __init__(self) -> None:
        """Create them, all at zero."""
        self.registry = own = CollectorRegistry()
        name = "edgewright_"
        self.info = Gauge(
            f"{name}model_info", "The model that is served", ("model", "version", "variant", "backend"), registry=own
        )
        self.first_token = Histogram(
            f"{name}time_to_first_token_seconds", "From a request's arrival", registry=own, buckets=FIRST_S
        )
        self.inter_token = Histogram(
            f"{name}inter_token_seconds", "Between two tokens of one answer", registry=own, buckets=BETWEEN_S
        )
        self.whole = Histogram(
            f"{name}request_seconds", "From arrival to the last token", registry=own, buckets=WHOLE_S
        )
        self.queue = Histogram(f"{name}queue_seconds", "Waiting for a place", registry=own, buckets=FIRST_S)
        self.batch = Histogram(
            f"{name}batch_size", "Requests under way, as each token sees it", registry=own, buckets=BATCH
        )
        self.tokens = Counter(f"{name}tokens", "Of prompts and of answers", ("kind",), registry=own)
        self.requests = Counter(
            f"{name}requests", "By endpoint and how they ended", ("endpoint", "outcome"), registry=own
        )
        self.errors = Counter(f"{name}errors", "By kind", ("kind",), registry=own)
        self.suspicious = Counter(f"{name}suspicious", "Prompt injection attempts", registry=own)
        self.under_way = Gauge(f"{name}under_way", "Requests the model works on", registry=own)
        self.waiting = Gauge(f"{name}waiting", "Requests that wait for a place", registry=own)
        self.memory = Gauge(f"{name}model_memory_bytes", "Resident memory of the model's process", registry=own)
        self.restarts = Gauge(f"{name}model_restarts", "How often the model's process was started again", registry=own)
        self.fallback = Gauge(f"{name}fallback", "1 while the model runs on another device than asked", registry=own)
        self.ready = Gauge(f"{name}ready", "1 while the server is ready", registry=own)
        self.log_lost = Gauge(f"{name}log_lines_lost", "Lines of the log that found no room", registry=own)
