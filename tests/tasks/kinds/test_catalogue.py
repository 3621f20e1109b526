"""The metric catalogue: whole, unambiguous, and all that a new metric and its gate need."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import ConfigError, DataError
from tasks.kinds.catalogue import Catalogue, MetricSpec
from tasks.kinds.causal_lm.metrics import CATALOGUE
from tasks.kinds.table import catalogue
from tests import ROOT

ROW = """    MetricSpec(
        name="spelling",
        title="right spelling",
        group="quality",
        better="higher",
        form="percent",
        source="quality",
        counted="rows",
        interval="rows",
        gate=Gate("spelling"),
        column=Column("spelling", "words that are spelt right"),
        card=CardLine("words that are spelt right", "{:.2%}"),
        axis=Axis("spelling", 0.2, "linear", "of all"),
    ),
"""
LINE = "  spelling: {min: 0.9}\n"
SEES = """
import dataclasses, io, json
from pathlib import Path

from tasks import gate
from tasks.kinds.table import catalogue
from tasks.packaging import card, manifest
from tasks.params.load import load_params
from tasks.records.base import Estimate
from tasks.registry import fields
from tasks.reporting.page import page
from tasks.reporting.terminal import print_scorecard
from tests import report_fixture as fixture

scored = fixture.evaluation


def spelt(name):
    found = scored(name)
    value = 0.5 if name == "onnx-int8" else 0.97
    return found.model_copy(update={"figures": found.figures | {"spelling": Estimate(value=value, se=0.004)}})


fixture.evaluation = spelt
params = fixture.params(gate=load_params().model_dump()["gate"])
found = fixture.findings(params)
scores = found.scores
rows = [row for row in scores.rows if row.variant in ("torch-fp32", "openvino-int8", "onnx-int8")]
judged = gate.gate(params, scores.recommendation.model_copy(update={"rows": tuple(rows)}))
terminal = io.StringIO()
print_scorecard(scores, 200, terminal)
contents = manifest.Contents(
    model="m", origin="o", source_sha256="0", variant=scores.winner.variant, backend="openvino",
    recipe=fixture.recipe(scores.winner.variant), tensor_share={}, versions={}, runtime={}, settings={},
    requirements=(), chat=False, verdict="pass", results_digest="0",
)
evidence = card.Evidence(
    contents=contents, licence="l", artifact=scores.artifacts[scores.winner.variant],
    evaluation=scores.evaluations[scores.winner.variant], benchmark=scores.benchmarks[scores.winner.variant],
    row=scores.winner, reference=scores.row(scores.reference), verdict=scores.verdict(scores.winner.variant),
    hardware=found.hardware, known=catalogue(),
)
print(json.dumps({
    "gates": {v.variant: e.model_dump() for v in judged.verdicts for e in v.expectations if e.metric == "spelling"},
    "terminal": terminal.getvalue(),
    "page": page(found),
    "reason": scores.recommendation.reason,
    "ranking": {one.variant: one.reason for one in scores.recommendation.ranking},
    "card": card.card(evidence),
    "logged": fields.metrics(scores.winner),
    "source": catalogue.__code__.co_filename,
}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a copy of the tree shows that has one row and one line more."""
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "tasks", copy / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests").mkdir()
    for name in ("__init__.py", "factories.py", "report_fixture.py"):
        shutil.copy2(ROOT / "tests" / name, copy / "tests" / name)
    insert(ROOT / "params.yaml", copy / "params.yaml", "\ngate:", LINE)
    metrics = Path("tasks/kinds/causal_lm/metrics.py")
    insert(ROOT / metrics, copy / metrics, "\nQUALITY = (", ROW)
    environment = os.environ | {"PYTHONPATH": str(copy)}
    made = subprocess.run(
        [sys.executable, "-c", SEES], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    assert Path(found.pop("source")).is_relative_to(copy)
    return found


def insert(source: Path, target: Path, after: str, text: str) -> None:
    """Copy a file with `text` below the one line that begins with `after`."""
    before = source.read_text()
    assert before.count(after) == 1
    end = before.index("\n", before.index(after) + 1) + 1
    target.write_text(before[:end] + text + before[end:])


def test_a_new_gate_decides(seen: dict[str, Any]) -> None:
    kept, broken = seen["gates"]["openvino-int8"], seen["gates"]["onnx-int8"]
    assert (kept["gate"], kept["outcome"], kept["minimum"]) == ("min_spelling", "pass", 0.9)
    assert kept["low"] < 0.97 < kept["high"]
    assert (broken["outcome"], broken["observed"]) == ("fail", 0.5)


def test_a_new_metric_is_shown(seen: dict[str, Any]) -> None:
    lines = seen["terminal"].splitlines()
    assert any("spelling" in line.split() for line in lines[:3])
    assert "97.0" in next(line for line in lines if "openvino-int8" in line)
    assert "spelling min 90%" in seen["terminal"] and "fail: spelling" in seen["terminal"]
    assert "words that are spelt right" in seen["page"] and "right spelling" in seen["page"]
    assert "| words that are spelt right | 97.00% | ± 0.40% | 40 | 97.00% |" in seen["card"]


def test_a_new_axis_ranks(seen: dict[str, Any]) -> None:
    assert "spelling 17%" in seen["reason"]  # 0.2 of 0.25 * 4 + 0.2
    assert "spelling 0.00 x 17%" in seen["ranking"]["onnx-int8"]


def test_a_new_metric_is_logged(seen: dict[str, Any]) -> None:
    assert {name: seen["logged"][name] for name in ("spelling", "spelling_se", "spelling_n")} == {
        "spelling": 0.97, "spelling_se": 0.004, "spelling_n": 40.0,
    }  # fmt: skip


def test_every_name_stands_once_and_every_ratio_is_of_something() -> None:
    row = MetricSpec(name="a", title="a", group="quality", better="higher")
    with pytest.raises(ValueError, match="stands twice"):
        Catalogue("kind", (row,), (row,))
    with pytest.raises(ValueError, match="b: ratios of metrics that are not in the catalogue"):
        Catalogue("kind", (dataclasses.replace(row, name="b", of="gone", against="share"),))


def test_an_unknown_metric_or_kind_is_refused() -> None:
    with pytest.raises(DataError, match="no metric 'speed' is known of causal-lm"):
        CATALOGUE["speed"]
    with pytest.raises(ConfigError, match="kind of model 'video' is not known; allowed: causal-lm"):
        catalogue("video")
    assert CATALOGUE["decode_speedup_vs_bf16"] is CATALOGUE["decode_speedup"]


def test_words_that_stand_side_by_side_differ() -> None:
    for appearance in ("column", "card", "headline", "step", "watch", "slower"):
        shown = [getattr(spec, appearance) for spec in CATALOGUE.having(appearance)]
        words = [one.head if appearance == "column" else one.words for one in shown]
        assert len(set(words)) == len(words) > 0, appearance
    gates = [spec.gate.short for spec in CATALOGUE if spec.gate is not None]
    assert len(set(gates)) == len(gates)


def test_columns_and_phases_keep_their_order() -> None:
    assert [spec.name for spec in CATALOGUE.having("column")][:3] == ["artifact_mb", "perplexity_ratio", "retention"]
    assert CATALOGUE.deciding == ("decode_tokens_per_s", "prefill_tokens_per_s")
    assert CATALOGUE.phases["time_to_first_token_ms"] is False and CATALOGUE.phases["batch_tokens_per_s"] is True


def test_a_gate_is_named_by_its_bound_and_metric() -> None:
    assert CATALOGUE["decode_speedup"].gate_name == "min_decode_speedup"
    assert CATALOGUE["memory_share"].gate_name == "max_memory_share"
