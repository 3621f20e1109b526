"""The ranking: weights, missing objectives, ties and the sentence that explains it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.kinds.table import catalogue
from tasks.records.scores import Metric, Recommendation, ScoreRow
from tasks.scores import rank
from tasks.scores.pareto import front
from tests import factories as make
from tests.tasks.test_recommend import OPENVINO, REFERENCE, RIVAL


def ranked(*rows: ScoreRow, **weights: float) -> Recommendation:
    return rank.recommend(catalogue(), rows, REFERENCE, weights)


def row(name: str, kl: float, decode: float, prefill: float, peak: float, role: str = "candidate") -> ScoreRow:
    cells = make.good_metrics(
        mean_kl=kl, decode_tokens_per_s=decode, prefill_tokens_per_s=prefill, peak_rss_mb=peak, artifact_mb=peak / 3
    )
    return make.row(name, role=role, metrics=cells)


EXACT = row("exact", 0.001, 80.0, 900.0, 500.0)
QUICK = row("quick", 0.1, 160.0, 1800.0, 500.0)
SMALL = row("small", 0.1, 80.0, 900.0, 200.0)
POOR = row("poor", 0.2, 70.0, 800.0, 600.0)


@pytest.mark.parametrize(
    ("weights", "first"),
    [
        ({"quality": 1.0, "decode": 0.0, "prefill": 0.0, "memory": 0.0}, "exact"),
        ({"quality": 0.0, "decode": 1.0, "prefill": 1.0, "memory": 0.0}, "quick"),
        ({"quality": 0.0, "decode": 0.0, "prefill": 0.0, "memory": 5.0}, "small"),
    ],
)
def test_the_weights_decide(weights: dict[str, float], first: str) -> None:
    found = ranked(POOR, EXACT, QUICK, SMALL, **weights)
    assert found.ranking[0].variant == first
    assert [r.rank for r in found.ranking] == [1, 2, 3, 4]
    assert found.ranking[-1].utility <= found.ranking[0].utility <= 1


def test_the_reference_anchors_the_scale_so_that_gains_over_it_count() -> None:
    reference = row(REFERENCE, 0.0, 20.0, 500.0, 1000.0, role="reference")
    doubled, quadrupled = row("x2", 0.1, 40.0, 500.0, 1000.0), row("x4", 0.1, 80.0, 500.0, 1000.0)
    found = ranked(doubled, quadrupled, reference, quality=0.0, decode=1.0, prefill=0.0, memory=0.0)
    assert {r.variant: r.utility for r in found.ranking} == {"x2": 0.5, "x4": 1.0}
    alone = ranked(doubled, quadrupled, quality=0.0, decode=1.0, prefill=0.0, memory=0.0)
    assert {r.variant: r.utility for r in alone.ranking} == {"x2": 0.0, "x4": 1.0}


def test_the_scale_of_the_weights_does_not_matter() -> None:
    small = ranked(EXACT, QUICK, SMALL, quality=0.4, decode=0.2, prefill=0.2, memory=0.2)
    large = ranked(EXACT, QUICK, SMALL, quality=4.0, decode=2.0, prefill=2.0, memory=2.0)
    assert small.ranking == large.ranking


@given(
    st.lists(st.tuples(*[st.integers(1, 6)] * 4), min_size=2, max_size=8),
    st.tuples(*[st.integers(0, 3)] * 4).filter(any),
)
def test_a_dominated_candidate_never_outranks_the_one_that_beats_it(
    values: list[tuple[int, int, int, int]], weights: tuple[int, int, int, int]
) -> None:
    rows = [row(f"v{i}", float(a), float(b), float(c), float(d)) for i, (a, b, c, d) in enumerate(values)]
    chosen = dict(zip(("quality", "decode", "prefill", "memory"), map(float, weights), strict=True))
    found = ranked(*rows, **chosen)
    utility = {r.variant: r.utility for r in found.ranking}
    objectives, _ = rank.all_objectives(catalogue())
    points = {r.variant: {n: m.value for n, m in r.metrics.items() if m.value is not None} for r in rows}
    for name, others in front(points, objectives).dominated.items():
        assert all(utility[other] >= utility[name] for other in others)


def test_reference_and_rivals_are_on_the_front_but_never_ranked() -> None:
    reference = row(REFERENCE, 0.0, 15.0, 500.0, 1150.0, role="reference")
    rival = row(RIVAL, 0.0005, 90.0, 900.0, 490.0, role="rival")
    found = ranked(reference, rival, EXACT, QUICK)
    assert set(found.front) == {REFERENCE, RIVAL, "quick"}
    assert [r.variant for r in found.ranking if not r.on_front] == ["exact"]
    beaten = next(r for r in found.ranking if r.variant == "exact")
    assert beaten.reason.startswith("beaten or equalled in everything by gguf-f16 (rival); quality 0.99 x 10%")


def test_the_sentence_names_the_first_its_numbers_and_the_next() -> None:
    found = ranked(EXACT, QUICK, quality=0.2, decode=0.3, prefill=0.3, memory=0.2)
    assert found.reason == (
        "quick ranks first of 2 by quality 20%, decode 30%, prefill 30%, memory 20% (utility 0.80): "
        "mean KL 0.1 nats, decode 160 tok/s (5.0x torch-fp32), prefill 1800 tok/s (3.3x torch-fp32), "
        "memory 500 MB peak (40% of torch-fp32); next is exact (0.40)."
    )


def test_equal_utilities_are_ordered_by_quality() -> None:
    found = ranked(QUICK, EXACT, quality=0.4, decode=0.25, prefill=0.15, memory=0.2)
    assert [(r.variant, r.utility) for r in found.ranking] == [("exact", 0.6), ("quick", 0.6)]


def test_what_was_not_measured_on_the_device_is_left_out_and_said() -> None:
    gap = Metric(state="not-measured", reason="iphone is not this host")
    cells = dict.fromkeys(("decode_tokens_per_s", "prefill_tokens_per_s", "peak_rss_mb"), gap)
    big = make.row("big", metrics=make.good_metrics(**cells, artifact_mb=300.0, mean_kl=0.01))
    little = make.row("little", metrics=make.good_metrics(**cells, artifact_mb=100.0, mean_kl=0.011))
    found = ranked(big, little, quality=0.1, decode=1.0, prefill=0.0, memory=0.9)
    assert found.ranking[0].variant == "little"
    assert found.front == ("big", "little")
    assert found.reason.endswith(
        "Ranked without decode, prefill, memory (iphone is not this host); the artifact's size stands in for memory."
    )


def test_weights_that_ask_only_for_the_unknown_fall_back_to_equal_ones() -> None:
    gap = Metric(state="not-measured", reason="no Metal")
    only = make.row("only", metrics=make.good_metrics(decode_tokens_per_s=gap))
    found = ranked(only, quality=0.0, decode=1.0, prefill=0.0, memory=0.0)
    assert "None of the weighted objectives is known" in found.reason
    assert found.ranking[0].utility == pytest.approx(1.0)


def test_a_candidate_that_lacks_one_objective_earns_nothing_for_it() -> None:
    gap = Metric(state="not-measured", reason="no Metal")
    mlx = make.row("mlx", metrics=QUICK.metrics | {"decode_tokens_per_s": gap})
    found = ranked(QUICK, EXACT, mlx)
    assert {r.variant: r.on_front for r in found.ranking} == {"quick": True, "exact": True, "mlx": False}
    lacking = next(r for r in found.ranking if r.variant == "mlx")
    assert lacking.reason.startswith("not on the front, decode is not known (no Metal); ")
    assert "decode unknown x 30%" in lacking.reason


def test_with_no_candidate_the_reason_lists_what_became_of_them() -> None:
    found = ranked(make.row(OPENVINO, status="failed", reason="out of memory", metrics={}))
    assert found.ranking == ()
    assert found.reason == "No candidate was made and measured: openvino-int8 failed (out of memory)."
    assert ranked().reason == "No candidate was made and measured: the plan has none."
