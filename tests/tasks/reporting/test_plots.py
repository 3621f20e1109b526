"""Plots: fronts, labels that do not cover each other, bars and gaps."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reporting import charts, plots
from tasks.reporting.findings import Findings

SPEED = plots.Axis("speed", plots.log, plots.LOG_TICKS, str, True, 31.2, "gate ≥ 2×")
RATIO = plots.Axis("ratio", plots.above_one, plots.RATIO_TICKS, str, False, 1.1, "gate ≤ 1.1")


def point(name: str, x: float, y: float) -> plots.Point:
    return plots.Point(name, x, y, "gguf", "int8", True, name == "a", f"{name}: tip")


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_front_in_a_plane_is_what_nothing_beats(places: list[tuple[int, int]]) -> None:
    points = [point(f"v{n}", x, 1 + y / 10) for n, (x, y) in enumerate(places)]
    kept = {(p.x, p.y) for p in plots.in_plane_front(points, SPEED, RATIO)}

    def beaten(p: plots.Point) -> bool:
        return any(o.x >= p.x and o.y <= p.y and (o.x, o.y) != (p.x, p.y) for o in points)

    assert kept == {(p.x, p.y) for p in points if not beaten(p)}


@given(st.lists(st.tuples(st.floats(0.5, 5000), st.floats(0.9, 30)), min_size=1, max_size=14))
def test_any_points_make_a_drawing_with_all_names_inside(places: list[tuple[float, float]]) -> None:
    drawing = ET.fromstring(plots.scatter([point(f"v{n}", *p) for n, p in enumerate(places)], SPEED, RATIO, "c"))
    labels = [text for text in drawing.iter("text") if "label" in text.get("class", "").split()]
    assert sorted(str(text.text) for text in labels) == sorted(f"v{n}" for n in range(len(places)))
    for text in labels:
        assert 0 <= float(text.get("x", "-1")) <= plots.WIDTH and 0 <= float(text.get("y", "-1")) <= plots.HEIGHT


def test_labels_of_a_real_run_do_not_cover_each_other(found: Findings) -> None:
    for _, drawing in charts.planes(found.scores):
        boxes = []
        for text in ET.fromstring(drawing).iter("text"):
            if "label" not in text.get("class", "").split():
                continue
            wide = len(str(text.text)) * plots.CHARACTER
            x, y = float(text.get("x", "0")), float(text.get("y", "0"))
            left = x - {"start": 0, "middle": wide / 2, "end": wide}[text.get("text-anchor", "start")]
            boxes.append(plots.Box(left, y - plots.LINE + 3, left + wide, y + 3))
        assert len(boxes) == 10
        assert all(a.overlap(b) < 1 for n, a in enumerate(boxes) for b in boxes[n + 1 :])


def test_limits_winner_and_tips_are_drawn(found: Findings) -> None:
    name, drawing = charts.planes(found.scores)[0]
    assert name == "Quality and decode speed"
    assert "gate ≤ 1.1" in drawing and "gate ≥ 2×" in drawing
    assert drawing.count('class="ring"') == 1 and 'class="allowed"' in drawing
    assert "<title>openvino-int8\ndecode tokens per s 77.1" in drawing


def test_bars_show_what_was_not_measured(found: Findings) -> None:
    (_, decode), (_, prefill) = charts.speeds(found.scores)
    assert decode.count(">n/m<") == 2 and "Metal" in decode
    assert "(69.2 to 82.3, 6 timings)" in decode
    for drawing in (decode, prefill):
        ET.fromstring(drawing)


@pytest.mark.parametrize("rows", [[], [plots.Bar("a", "mlx", None, 0, 0, False, ("n/m", ""), "a: no device")]])
def test_nothing_measured_draws_nothing(rows: list[plots.Bar]) -> None:
    assert plots.bars(rows, None, "", "c") == ""
    assert plots.scatter([], SPEED, RATIO, "c") == ""
