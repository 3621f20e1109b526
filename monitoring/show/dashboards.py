"""Grafana's dashboard, and Prometheus' and Alertmanager's configuration: made from the metrics and the alert rules.

For teams that have these: `python -m monitoring.show.dashboards --out FOLDER` writes the files.
Without them `make live` and `make monitor` show and judge the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from monitoring.collect.metrics import BY_NAME, METRICS, SPAN, Group, Metric
from tasks.params.watching import Rule
from tasks.params.whole import Whole, load_whole
from tasks.records.base import write_text
from tasks.run.stage import run_stage

OUT = Path("artifacts/monitor/dashboards")
UID = "edgewright"
WIDTH, HEIGHT, ACROSS = 8, 7, 3  # of a panel in Grafana's grid of 24, and how many stand in a row
GROUPS: tuple[Group, ...] = ("performance", "quality", "resources", "business", "security")
SOURCE = {"type": "prometheus", "uid": "${source}"}
OFFSET = "1h"  # what a rate is compared with, and the long look at an error budget
WEBHOOK = "http://127.0.0.1:9095/"  # where Alertmanager posts, unless another address is given
ALERTMANAGER = "127.0.0.1:9093"
AGAIN = {"page": "1h", "warn": "6h"}


def grafana() -> dict[str, Any]:
    """The dashboard: at the top what is served and whether it is ready, then a row of panels for each group."""
    panels: list[dict[str, Any]] = []

    def place(panel: dict[str, Any], x: int, y: int, width: int, height: int) -> None:
        panels.append({"id": len(panels) + 1, "gridPos": {"x": x, "y": y, "w": width, "h": height}, **panel})

    place(_stat("Ready", "min(edgewright_ready)"), 0, 0, 4, 4)
    place(_stat("Version", "edgewright_model_info", "{{version}} ({{variant}})"), 4, 0, 10, 4)
    place(_stat("Rollout", "edgewright_router_phase == 1", "{{phase}}"), 14, 0, 10, 4)
    y = 4
    for group in GROUPS:
        shown = [metric for metric in METRICS if metric.group == group and metric.promql]
        if not shown:
            continue
        place({"type": "row", "title": group.capitalize(), "collapsed": False, "panels": []}, 0, y, 24, 1)
        for number, metric in enumerate(shown):
            across, down = number % ACROSS, number // ACROSS
            place(_series(metric), WIDTH * across, y + 1 + HEIGHT * down, WIDTH, HEIGHT)
        y += 1 + HEIGHT * ((len(shown) + ACROSS - 1) // ACROSS)
    return {
        "uid": UID,
        "title": "Edgewright",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "annotations": {"list": [_versions()]},
        "panels": panels,
    }


def _versions() -> dict[str, Any]:
    """A line across all panels where another version begins to answer."""
    return {
        "name": "Versions", "enable": True, "iconColor": "purple", "datasource": SOURCE,
        "expr": "edgewright_model_info unless edgewright_model_info offset 1m", "titleFormat": "version {{version}}",
    }  # fmt: skip


def _series(metric: Metric) -> dict[str, Any]:
    legend = f"{metric.name}, version {{{{version}}}}" if metric.own else metric.name
    return {
        "type": "timeseries", "title": metric.title, "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": metric.unit, "min": 0}, "overrides": []},
        "targets": [{"refId": "A", "expr": metric.promql, "legendFormat": legend, "datasource": SOURCE}],
    }  # fmt: skip


def _stat(title: str, query: str, legend: str = "") -> dict[str, Any]:
    mode = "name" if legend else "value"
    return {
        "type": "stat", "title": title, "datasource": SOURCE, "options": {"textMode": mode, "colorMode": "value"},
        "targets": [{"refId": "A", "expr": query, "legendFormat": legend or title, "datasource": SOURCE}],
    }  # fmt: skip


def prometheus_rules(rules: Mapping[str, Rule]) -> tuple[dict[str, Any], list[str]]:
    """A series recorded for each metric, and an alert for each rule; and the rules that Prometheus cannot judge.

    A percentile of nothing is NaN, and one NaN makes an hour's average NaN: `>= 0` keeps it from being recorded.
    """
    recorded = [{"record": f"edgewright:{one.name}", "expr": f"({one.promql}) >= 0"} for one in METRICS if one.promql]
    alerts, left_out = [], []
    for name, rule in rules.items():
        query = expression(rule)
        if not query:
            left_out.append(f"{name}: {rule.metric} is not in /metrics; `make monitor` judges it")
            continue
        alert = {
            "alert": name, "expr": query, "labels": {"severity": rule.severity},
            "annotations": {"summary": f"{rule.metric} of the served model", "runbook": rule.runbook},
        }  # fmt: skip
        if rule.windows > 1:
            alert["for"] = f"{(rule.windows - 1) * int(SPAN.removesuffix('m'))}m"
        alerts.append(alert)
    groups = [{"name": "edgewright-figures", "interval": "15s", "rules": recorded}]
    return {"groups": [*groups, {"name": "edgewright-alerts", "rules": alerts}]}, left_out


def expression(rule: Rule) -> str:
    """A rule in PromQL; empty where Prometheus does not have its metric.

    >>> expression(Rule(metric="ready", below=1.0, runbook=""))
    'edgewright:ready < 1 or absent(edgewright:ready)'
    """
    metric = BY_NAME.get(rule.metric)
    if rule.kind == "drift" or metric is None or not metric.promql:
        return ""
    series = f"edgewright:{metric.name}"
    if rule.kind == "absent":
        return f"absent_over_time({series}[{SPAN}]) or {series} == 0"
    if rule.kind == "burn":
        assert rule.objective is not None and rule.above is not None
        most = f"{rule.above * (1 - rule.objective):g}"
        long = metric.promql.replace(f"[{SPAN}]", f"[{OFFSET}]")  # of all requests of the hour, also where few asked
        return f"{series} > {most} and {long} > {most}"
    usual = f" * quantile_over_time(0.5, {series}[{OFFSET}] offset {SPAN})" if rule.kind == "rate" else ""
    parts = [
        f"{series} {sign} {limit:g}{usual}"
        for sign, limit in ((">", rule.above), ("<", rule.below))
        if limit is not None
    ]
    # A server that is gone, or behind a router not ready, says nothing.
    if metric.unit == "bool" and rule.below is not None:
        parts.append(f"absent({series})")
    return " or ".join(parts)


def alertmanager(webhook: str = WEBHOOK) -> dict[str, Any]:
    """One message for alerts of the same name and version, posted to `webhook`; pages more often than warnings."""
    return {
        "route": {
            "receiver": "edgewright", "group_by": ["alertname", "version"], "group_wait": "30s", "group_interval": "5m",
            "routes": [
                {"matchers": [f'severity="{severity}"'], "receiver": "edgewright", "repeat_interval": again}
                for severity, again in AGAIN.items()
            ],
        },
        "receivers": [{"name": "edgewright", "webhook_configs": [{"url": webhook}]}],
    }  # fmt: skip


def prometheus(host: str, port: int) -> dict[str, Any]:
    """Scrape the router and its two slots; without a router the server, which has the first path alone."""
    target = f"{host}:{port}"
    paths = {"": "/metrics", "-blue": "/metrics/blue", "-green": "/metrics/green"}
    return {
        "global": {"scrape_interval": "15s"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [ALERTMANAGER]}]}]},
        "scrape_configs": [
            {"job_name": f"edgewright{name}", "metrics_path": path, "static_configs": [{"targets": [target]}]}
            for name, path in paths.items()
        ],
    }


def write(folder: Path, params: Whole, webhook: str = WEBHOOK) -> list[str]:
    """Write all four files; returns the rules that are left out."""
    rules, left_out = prometheus_rules(params.monitor.rules)
    write_text(folder / "grafana.json", json.dumps(grafana(), indent=2) + "\n")
    files = {
        "rules.yml": rules, "alertmanager.yml": alertmanager(webhook),
        "prometheus.yml": prometheus(params.serve.host, params.serve.port),
    }  # fmt: skip
    for name, content in files.items():
        write_text(folder / name, yaml.safe_dump(content, sort_keys=False, width=1000))
    return left_out


def main(argv: list[str] | None = None) -> int:
    """Write them and say where."""
    made = argparse.ArgumentParser(
        prog="python -m monitoring.show.dashboards",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--out", type=Path, default=OUT, help=f"folder ({OUT})")
    made.add_argument("--webhook", default=WEBHOOK, help=f"where Alertmanager posts alerts ({WEBHOOK})")
    arguments = made.parse_args(argv)

    def work() -> None:
        for line in write(arguments.out, load_whole(), arguments.webhook):
            print(f"left out: {line}")
        print(f"written: {arguments.out}/grafana.json, rules.yml, alertmanager.yml, prometheus.yml")

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
