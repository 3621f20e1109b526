"""tasks/scores/overview.py: the few figures that DVC shows and compares."""

from __future__ import annotations

from tasks.kinds.table import catalogue
from tasks.records.scores import Metric
from tasks.scores import overview
from tests import factories as make

KNOWN = catalogue("causal-lm")


def test_each_variant_has_the_figures_that_sum_it_up_as_far_as_measured() -> None:
    lame = make.good_metrics() | {"decode_tokens_per_s": Metric(state="not-measured", reason="another device")}
    broken = make.row("b", status="failed", reason="crash", metrics={})
    found = overview.headline(KNOWN, make.recommendation(make.row("a"), make.row("lame", metrics=lame), broken))
    assert set(found) == {"a", "lame"}
    assert set(found["a"]) <= {spec.name for spec in KNOWN.having("headline")}
    assert set(found["a"]) - set(found["lame"]) == {"decode_tokens_per_s"}
    assert found["a"]["decode_tokens_per_s"] == make.good_metrics()["decode_tokens_per_s"].value


def test_a_place_in_the_plots_needs_quality_and_something_across_it() -> None:
    full = make.good_metrics()
    blind = {name: cell for name, cell in full.items() if name != "perplexity_ratio"}
    alone = {"perplexity_ratio": full["perplexity_ratio"]}
    rows = (make.row("a"), make.row("blind", metrics=blind), make.row("alone", metrics=alone))
    (only,) = overview.planes(KNOWN, make.recommendation(*rows))
    assert only["variant"] == "a" and only["quality"] == full["perplexity_ratio"].value
    assert {"speed", "memory"} & set(only)
