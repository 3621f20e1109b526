"""Where a variant is put: in the scorecard, under a gate, on the page, in the card and in MLflow."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.packaging.card import _placed
from tasks.records.placement import Fallback, OnDevice, Placement
from tasks.records.speed import Trial, Tuned
from tasks.registry.results import Results
from tasks.registry.runs import placement as tags
from tasks.reporting.notes import notes
from tasks.reporting.page import page
from tests import report_fixture as fixture

HERE = Placement(
    backend="openvino", requested="cpu", resolved="CPU", transfers=0, precision="f32", threads="2",
    devices=(OnDevice(device="CPU", operators=40, flops_share=1.0),), verified_by="EXECUTION_DEVICES",
)  # fmt: skip
FELL = HERE.model_copy(
    update={
        "requested": "npu",
        "fallbacks": (Fallback(asked="NPU", used="CPU", kind="library", reason="no driver <here>"),),
    }
)
PART = HERE.model_copy(
    update={
        "requested": "npu",
        "resolved": "NPU",
        "devices": (
            OnDevice(device="NPU", operators=30, flops_share=0.9),
            OnDevice(device="CPU", operators=10, flops_share=0.1),
        ),
        "fallbacks": (Fallback(asked="NPU", used="CPU", kind="operator", reason="it lacks Det"),),
    }
)  # fmt: skip
WINNER = "openvino-int8"


def row(placement: Placement | None, **blocks: Any) -> tuple[dict[str, tuple[float | None, str]], str]:
    """Both figures of the variant with their states, and its verdict."""
    found = fixture.scores(fixture.params(**blocks).for_target(), {WINNER: placement} if placement else {})
    own = next(one for one in found.rows if one.variant == WINNER)
    cells = {name: (own.metrics[name].value, own.metrics[name].state) for name in ("placed_share", "fallbacks")}
    judged = found.verdict(WINNER)
    assert judged is not None
    return cells, judged.outcome


@pytest.mark.parametrize(
    ("placement", "share", "count"),
    [(HERE, 1.0, 0.0), (FELL, 0.0, 1.0), (PART, 0.9, 1.0)],
)
def test_the_scorecard_tells_share_and_fallbacks(placement: Placement, share: float, count: float) -> None:
    cells, outcome = row(placement)
    assert cells == {"placed_share": (share, "measured"), "fallbacks": (count, "measured")}
    assert outcome == "pass"  # no gate unless asked for


def test_who_was_not_asked_is_not_measured() -> None:
    cells, _ = row(None)
    assert {state for _, state in cells.values()} == {"not-measured"}


def test_a_runtime_that_tells_no_flops_is_a_missing_share() -> None:
    silent = PART.model_copy(update={"devices": (OnDevice(device="NPU", operators=3, flops_share=None),)})
    cells, outcome = row(silent, gate={"placed_share": {"min": 0.5}})
    assert cells["placed_share"] == (None, "missing")
    assert outcome == "fail"


@pytest.mark.parametrize(
    ("placement", "blocks", "outcome"),
    [
        (PART, {"gate": {"placed_share": {"min": 0.8}}}, "pass"),
        (PART, {"gate": {"placed_share": {"min": 0.95}}}, "fail"),
        (HERE, {"accelerate": {"on_fallback": "refuse"}}, "pass"),
        (FELL, {"accelerate": {"on_fallback": "refuse"}}, "fail"),
        (FELL, {"accelerate": {"on_fallback": "refuse"}, "gate": {"fallbacks": None}}, "pass"),
        (FELL, {"accelerate": {"on_fallback": "warn"}}, "pass"),
        (None, {"accelerate": {"on_fallback": "refuse"}}, "inconclusive"),
    ],
)
def test_placement_is_a_gate(placement: Placement | None, blocks: dict[str, Any], outcome: str) -> None:
    assert row(placement, **blocks)[1] == outcome


def test_the_page_shows_where_each_is_and_what_gained_nothing() -> None:
    found = fixture.findings()
    shown = replace(found, scores=fixture.scores(placements={WINNER: FELL}))
    text = page(shown)
    assert "Where each is placed" in text
    assert "no driver &lt;here&gt;" in text
    assert "Where each is placed" not in page(found)
    trial = Trial(settings={"device": "NPU"}, speedups={"decode_tokens_per_s": 0.8}, reason="")
    own = Tuned(backend="openvino", variant=WINNER, reason="", command="", trials=(trial,))
    tuned = {"openvino": own}
    said = " ".join(notes(replace(shown, tuned=tuned)))
    assert "No gain from the accelerator: openvino on NPU was tried (decode" in said
    assert "fell back to CPU (library): no driver" in said
    kept = {"openvino": tuned["openvino"].model_copy(update={"settings": {"device": "NPU"}})}
    assert "No gain" not in " ".join(notes(replace(found, tuned=kept)))


def test_the_card_and_mlflow_are_told() -> None:
    assert _placed(None) == ""
    assert "Asked for npu, placed on NPU: 90% of the FLOPs where asked; 0 transfers" in _placed(PART)
    assert "fell back (operator): it lacks Det" in _placed(PART)
    results = SimpleNamespace(recommendation=SimpleNamespace(placements={WINNER: FELL}))
    told = tags(cast(Results, results), WINNER)
    assert (told["placement.requested"], told["placement.resolved"]) == ("npu", "CPU")
    assert told["placement.fallbacks"].startswith("library: no driver")
    assert tags(cast(Results, results), "another") == {}
