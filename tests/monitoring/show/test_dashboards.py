"""What is made for Grafana, Prometheus and Alertmanager, and the page of our own."""

from __future__ import annotations

import doctest
import json
import math
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from monitoring.collect import scrape
from monitoring.collect.metrics import BY_NAME, METRICS
from monitoring.show import dashboards, live
from tasks.errors import DataError
from tasks.params.watching import Rule
from tasks.params.whole import load_whole
from tasks.serve.log.prometheus import Metrics

PARAMS = load_whole()
FROM_PROMETHEUS = [metric for metric in METRICS if metric.promql]


def test_every_metric_that_prometheus_has_is_a_panel_and_none_overlap() -> None:
    made = dashboards.grafana()
    queries = [target["expr"] for panel in made["panels"] for target in panel.get("targets", ())]
    assert {metric.promql for metric in FROM_PROMETHEUS} <= set(queries)
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        grid = panel["gridPos"]
        own = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        assert not own & taken
        assert grid["x"] + grid["w"] <= 24
        taken |= own


def test_series_that_are_asked_for_exist() -> None:
    text = generate_latest(Metrics().registry).decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    for metric in FROM_PROMETHEUS:
        for series in re.findall(r"edgewright_\w+", metric.promql):
            assert series.removesuffix("_bucket") in names, metric.name


def test_rules_of_every_kind_become_alerts_and_the_others_are_named() -> None:
    rules = {
        "a": Rule(metric="first_token_p95_ms", above=10.0, windows=2, runbook="look"),
        "b": Rule(metric="inter_token_p50_ms", kind="rate", above=2.0, severity="page", runbook="look"),
        "c": Rule(metric="requests_per_s", kind="absent", runbook="look"),
        "d": Rule(metric="error_rate", kind="burn", objective=0.99, above=10.0, runbook="look"),
        "e": Rule(metric="drift", kind="drift", runbook="look"),
        "f": Rule(metric="accuracy", below=0.9, runbook="look"),
    }
    made, left_out = dashboards.prometheus_rules(rules)
    alerts = {alert["alert"]: alert for alert in made["groups"][1]["rules"]}
    assert list(alerts) == ["a", "b", "c", "d"]
    assert [line.split(":")[0] for line in left_out] == ["e", "f"]
    assert alerts["a"]["for"] == "5m"
    assert alerts["b"]["labels"] == {"severity": "page"}
    assert "offset 5m" in alerts["b"]["expr"]
    assert "absent_over_time" in alerts["c"]["expr"]
    assert alerts["d"]["expr"].count("> 0.1") == 2
    assert "[1h]" in alerts["d"]["expr"]
    assert made["groups"][0]["rules"][0]["expr"].endswith(">= 0")


def test_the_projects_own_rules_name_metrics_that_exist() -> None:
    names = {metric.name for metric in METRICS} | {"drift"}
    assert {rule.metric for rule in PARAMS.monitor.rules.values()} <= names


def test_a_version_is_compared_with_itself_alone_where_another_says_nothing_of_it() -> None:
    query = BY_NAME["memory_mb"].promql
    assert query.startswith("sum by (version)")
    panels = [panel for panel in dashboards.grafana()["panels"] if panel["title"] == BY_NAME["memory_mb"].title]
    assert [panel["targets"][0]["legendFormat"] for panel in panels] == ["memory_mb, version {{version}}"]


def test_promtool_takes_what_is_written(tmp_path: Path) -> None:
    dashboards.write(tmp_path, PARAMS)
    assert json.loads((tmp_path / "grafana.json").read_text())["uid"] == "edgewright"
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on this machine")
    subprocess.run([promtool, "check", "config", str(tmp_path / "prometheus.yml")], check=True)
    (tmp_path / "memory.yml").write_text(json.dumps(MEMORY))
    done = subprocess.run([promtool, "test", "rules", "memory.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _slot(color: str, version: str, there: str, takes: str) -> list[dict[str, str]]:
    labels = f'job="edgewright-{color}",instance="127.0.0.1:8080"'
    return [
        {"series": f'edgewright_model_info{{{labels},model="m",version="{version}"}}', "values": there},
        {"series": f"edgewright_model_memory_bytes{{{labels}}}", "values": takes},
    ]


# A value each minute: blue serves version 3 with 400 MB, green from minute 60 on version 4 with 700; it leaks at 130.
MEMORY = {
    "rule_files": ["rules.yml"],
    "tests": [
        {
            "interval": "1m",
            "input_series": [
                *_slot("blue", "3", "1x180", "400000000x180"),
                *_slot("green", "4", "_x60 1x120", "_x60 700000000x69 1400000000x50"),
            ],
            "promql_expr_test": [
                {"expr": 'count by (version) (ALERTS{alertname="memory"})', "eval_time": when, "exp_samples": samples}
                for when, samples in (
                    ("62m", []),  # the version that came is larger, which is no leak
                    ("120m", []),
                    ("140m", [{"labels": '{version="4"}', "value": 1}]),
                )
            ],
        }
    ],
}


def test_doctests() -> None:
    assert [doctest.testmod(module).failed for module in (dashboards, scrape)] == [0, 0]


# -- /metrics ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=30))
def test_an_increase_is_never_negative_and_adds_up_where_nothing_began_anew(values: list[float]) -> None:
    looks = [scrape.parse(f"a_total {value!r}", 0.0) for value in values]
    steps = [scrape.increase(one, other, "a_total") for one, other in pairwise(looks)]
    assert min(steps) >= 0
    rising = [scrape.parse(f"a_total {value!r}", 0.0) for value in sorted(values)]
    whole = sum(scrape.increase(one, other, "a_total") for one, other in pairwise(rising))
    assert whole == pytest.approx(max(values) - min(values), abs=1e-6)


@given(st.lists(st.floats(0.001, 20), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(seconds: list[float], share: float) -> None:
    made = Metrics()
    before = scrape.parse(generate_latest(made.registry).decode(), 0.0)
    for one in seconds:
        made.first_token.observe(one)
    after = scrape.parse(generate_latest(made.registry).decode(), 1.0)
    found = scrape.quantile(before, after, "edgewright_time_to_first_token_seconds", share)
    assert found is not None
    from tasks.serve.log.prometheus import FIRST_S

    bounds = [0.0, *FIRST_S]
    true = sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)]
    low = max(bound for bound in bounds if bound < true)
    high = min((bound for bound in bounds if bound >= true), default=bounds[-1])
    assert low - 1e-9 <= found <= high + 1e-9


def test_what_is_no_metrics_page_is_an_error() -> None:
    with pytest.raises(DataError, match="Prometheus"):
        scrape.parse("<html>no</html> {", 0.0)


def test_counts_go_on_from_what_was_written_down() -> None:
    made = Metrics()

    def look() -> scrape.Scrape:
        return scrape.parse(generate_latest(made.registry).decode(), 0.0, slot="blue")

    before = scrape.again(scrape.kept(look()))  # a server that nobody asked yet
    made.requests.labels(endpoint="/v1/completions", outcome="ok").inc(7)
    made.errors.labels(kind="too-slow").inc(2)
    made.errors.labels(kind="too-large").inc(3)
    counts = {"unauthorized": 0.0, "too_large": 5.0, "malformed": 0.0, "refused": 0.0, "answered": 7.0}
    assert scrape.counted(before, look()) == counts


def test_a_slot_that_was_not_seen_before_counts_nothing_and_a_new_series_of_a_known_one_does() -> None:
    def look(text: str, **more: str) -> scrape.Scrape:
        return scrape.parse(text, 0.0, **more)

    router, slot = look("up 1"), look('a_total{k="x"} 9000', slot="blue")
    both = scrape.Scrape(1.0, {**router.series, **slot.series})
    assert scrape.increase(router, both, "a_total") == 0
    assert scrape.increase(router, look("up 1\na_total 3"), "a_total") == 3


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nup 1"])
def test_a_server_that_breaks_off_or_speaks_otherwise_does_not_answer(answer: bytes) -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def reply() -> None:
        for _ in scrape.PATHS:
            other, _address = listening.accept()
            with other:
                other.recv(4096)
                other.sendall(answer)

    threading.Thread(target=reply, daemon=True).start()
    with listening:
        assert scrape.fetch(f"http://127.0.0.1:{listening.getsockname()[1]}") is None


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_shows_what_the_server_says_and_a_gap_where_it_does_not(tmp_path: Path) -> None:
    made, began = Metrics(), time.time() - 100
    when = iter(range(0, 1000, 10))
    made.info.labels("m", "3", "v", "gguf").set(1)
    dead = False

    def fetch(url: str) -> scrape.Scrape | None:
        return None if dead else scrape.parse(generate_latest(made.registry).decode(), began + next(when))

    page = live.Live("http://127.0.0.1:1", fetch, tmp_path)
    page.look()
    for _ in range(20):
        made.requests.labels(endpoint="/v1/completions", outcome="ok").inc()
        made.first_token.observe(0.1)
    page.look()
    dead = True
    page.look()
    server = ThreadingHTTPServer(("127.0.0.1", 0), live.handler(page))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    try:
        data = json.loads(urllib.request.urlopen(f"{base}/data.json").read())
        assert b"<title>Edgewright, live</title>" in urllib.request.urlopen(base).read()
        foreign = urllib.request.Request(f"{base}/data.json", headers={"host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign)
    finally:
        server.shutdown()
    values = {one["name"]: one["values"] for one in data["metrics"]}
    assert values["requests_per_s"] == [None, 2.0, None]
    assert 50 < values["first_token_p50_ms"][1] < 100
    assert data["versions"] == [["3"], ["3"], []]
    assert (data["answers"], data["alerts"]) == (False, [])


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "http://127.0.0.1:99999", "http://a:b", "http://:80", "http://[a"]
)
def test_a_wrong_address_is_refused_with_what_is_allowed(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert live.main(["--url", url]) == 2
    assert "must be like http://" in capsys.readouterr().err
