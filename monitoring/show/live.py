"""A page with live charts of the server: /metrics read every two seconds, half an hour kept, alerts and repairs beside.

It listens on this machine alone and asks nobody else.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from monitoring.collect import scrape
from monitoring.collect.metrics import METRICS
from monitoring.collect.place import FOLDER
from monitoring.collect.scrape import Scrape
from monitoring.repair.state import NAME, State
from tasks.errors import ConfigError, DataError, ResourceError
from tasks.params.whole import load_whole
from tasks.run.stage import run_stage

PAGE = Path(__file__).with_name("live.html")
EVERY_S, KEPT_S, SPAN_S = 2.0, 1800.0, 20.0  # a look, what is kept, and over what rates and percentiles are taken
PORT = 8050
HISTOGRAMS = {
    "first_token": "edgewright_time_to_first_token_seconds",
    "inter_token": "edgewright_inter_token_seconds",
    "whole": "edgewright_request_seconds",
    "queue": "edgewright_queue_seconds",
}
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
SHOWN = 12  # repairs


def figures(before: Scrape, after: Scrape) -> dict[str, float | None]:
    """Every metric that /metrics can tell of the time between two looks, by name; None where nothing happened."""
    seconds = max(0.001, after.when - before.when)
    grown = partial(scrape.increase, before, after)
    made: dict[str, float | None] = {}
    for name, series in HISTOGRAMS.items():
        for word, share in SHARES.items():
            found = scrape.quantile(before, after, series, share)
            made[f"{name}_{word}_ms"] = None if found is None else 1000 * found
    counted = scrape.counted(before, after)
    asked = counted["answered"]
    good = sum(grown(scrape.REQUESTS, outcome=outcome) for outcome in ("ok", "gone-away"))
    made["requests_per_s"], made["answered"] = asked / seconds, asked
    made["tokens_per_s"] = grown("edgewright_tokens_total", kind="generated") / seconds
    refused = counted["refused"]
    made["error_rate"] = (asked - good + refused) / (asked + refused) if asked + refused else None
    for name in ("unauthorized", "too_large", "malformed"):
        count = counted[name]
        made[f"{name}_rate"] = count / (asked + count) if asked + count else None
    made["suspicious_rate"] = grown("edgewright_suspicious_total") / asked if asked else None
    for name, series in (("waiting", "waiting"), ("restarts", "model_restarts"), ("log_lines_lost", "log_lines_lost")):
        made[name] = scrape.value(after, f"edgewright_{series}")
    made["ready"] = max((one for _, one in after.of(scrape.READY, {})), default=None)
    memory = scrape.value(after, "edgewright_model_memory_bytes")
    made["memory_mb"] = None if memory is None else memory / 1e6
    return {metric.name: _finite(made.get(metric.name)) for metric in METRICS if metric.promql}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


class Live:
    """What was seen of one server in the last half hour."""

    def __init__(self, url: str, fetch: Callable[[str], Scrape | None] = scrape.fetch, folder: Path = FOLDER) -> None:
        """Nothing is seen yet."""
        self.url, self._fetch, self._folder = url, fetch, folder
        self._looks: deque[Scrape] = deque()
        self._points: deque[dict[str, Any]] = deque()
        self.answers = False

    def look(self) -> None:
        """Look once; a server that does not answer leaves a gap."""
        seen = self._fetch(self.url)
        self.answers = seen is not None
        now = time.time()
        while self._points and now - self._points[0]["when"] > KEPT_S:
            self._points.popleft()
        if seen is None:
            self._points.append({"when": now, "values": {}, "versions": []})
            return
        self._looks.append(seen)
        while len(self._looks) > 2 and seen.when - self._looks[1].when >= SPAN_S:
            self._looks.popleft()
        versions = sorted({dict(had).get("version", "") for had, _ in seen.of("edgewright_model_info", {})})
        values = figures(self._looks[0], seen) if len(self._looks) > 1 else {}
        self._points.append({"when": seen.when, "values": values, "versions": versions})

    def data(self) -> dict[str, Any]:
        """What the page is made of."""
        points = list(self._points)
        return {
            "url": self.url,
            "answers": self.answers,
            "when": [round(point["when"], 1) for point in points],
            "versions": [point["versions"] for point in points],
            "metrics": [
                {"name": one.name, "title": one.title, "unit": one.unit, "group": one.group,
                 "values": [point["values"].get(one.name) for point in points]}
                for one in METRICS if one.promql
            ],
            **self._monitor(),
        }  # fmt: skip

    def _monitor(self) -> dict[str, Any]:
        """Alerts and repairs, as the monitor's state has them; nothing where none runs."""
        try:
            state = State.read(self._folder / NAME)
        except (DataError, OSError):
            return {"alerts": [], "repairs": [], "drift": ""}
        alerts = [one for one in state.alerts if one.fired]
        return {
            "alerts": [{"name": a.name, "severity": a.severity, "since": a.since, "said": a.said} for a in alerts],
            "repairs": [one.model_dump() for one in reversed(state.shown[-SHOWN:])],
            "drift": f"{state.windows[-1].drift}: {state.windows[-1].why}" if state.windows else "",
        }


def handler(live: Live) -> type[BaseHTTPRequestHandler]:
    """Answers `/` and `/data.json`, to this machine's own names alone."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers.get("host", "").rsplit(":", 1)[0]
            if host not in ("127.0.0.1", "localhost"):  # a page elsewhere that was led here by its name
                self._answer(403, "text/plain", b"only this machine's own names")
            elif self.path == "/":
                self._answer(200, "text/html; charset=utf-8", PAGE.read_bytes())
            elif self.path == "/data.json":
                body = json.dumps(live.data(), allow_nan=False).encode()
                self._answer(200, "application/json", body)
            else:
                self._answer(404, "text/plain", b"there is / and /data.json")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.send_header("cache-control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _is_address(url: str) -> bool:
    """Whether it is a server's address and nothing more, with a port that can be."""
    try:
        parts = urlsplit(url)
        return re.fullmatch(r"https?://[\w.\-\[\]:]+", url) is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def serve(url: str, port: int) -> None:
    """Serve until stopped; raises ConfigError for what is no address, ResourceError for a port that is taken."""
    if not _is_address(url):
        raise ConfigError(f"--url {url!r} must be like http://127.0.0.1:8080")
    live = Live(url)
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler(live))
    except (OSError, OverflowError) as problem:
        raise ResourceError(f"port {port} cannot be listened on ({problem}); choose another with --port") from problem

    def look() -> None:
        while True:
            live.look()
            time.sleep(EVERY_S)

    threading.Thread(target=look, daemon=True).start()
    print(f"live charts of {url} at http://127.0.0.1:{server.server_port}; Ctrl-C stops", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    made = argparse.ArgumentParser(prog="python -m monitoring.show.live", description=__doc__)
    made.add_argument("--url", help="the server's address (serve.host and serve.port)")
    made.add_argument("--port", type=int, default=PORT, help=f"where the page is ({PORT}; 0: any)")
    arguments = made.parse_args(argv)

    def work() -> None:
        own = load_whole().serve
        serve((arguments.url or f"http://{own.host}:{own.port}").rstrip("/"), arguments.port)

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
