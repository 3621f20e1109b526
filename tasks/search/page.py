"""What a search found: a table for the terminal, and a page on which the candidates can be looked at from any side."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from tasks.kinds.catalogue import MetricSpec
from tasks.records.search import Figure, Found, Trial
from tasks.reporting.figures import figure as written
from tasks.search.wishes import Wishes

SHOWN = 14  # lines of the terminal's table
MARKS = {"best": "★", "front": "◆", "measured": "●", "cut": "✂", "failed": "✗", "open": "○"}


def mark(found: Found, one: Trial) -> str:
    """The sign of a candidate."""
    if one.name in (found.best, found.nearest):
        return MARKS["best"]
    return MARKS["front"] if one.name in found.front else MARKS[one.standing]


def ordered(wanted: Wishes, found: Found) -> list[Trial]:
    """Candidates that anything is known of: measured ones by their worth, then those that ended earlier."""

    def place(one: Trial) -> tuple[int, float]:
        gains = wanted.gains(one.figures)
        worth = sum(wanted.worth(gains)) if gains is not None else 0.0
        return (0 if one.standing == "measured" else 1, -worth)

    return sorted((one for one in found.trials if one.steps), key=place)


def table(wanted: Wishes, found: Found) -> Iterator[str]:
    """Lines for the terminal."""
    columns = list(dict.fromkeys([*wanted.axes.values(), *(limit.spec for limit in wanted.limits)]))[:7]
    yield f"   {'candidate':<34}" + "".join(f"{spec.short[:11]:>13}" for spec in columns)
    rows = ordered(wanted, found)
    for one in rows[:SHOWN]:
        cells = "".join(f"{_cell(spec, one.figures.get(spec.name)):>13}" for spec in columns)
        yield f" {mark(found, one)} {one.name:<34}{cells}  {one.reason if one.standing != 'measured' else ''}".rstrip()
    if len(rows) > SHOWN:
        yield f"   and {len(rows) - SHOWN} more on the page"
    yield "   " + "  ".join(f"{sign} {name}" for name, sign in MARKS.items())


def _cell(spec: MetricSpec, figure: Figure | None) -> str:
    return "" if figure is None else written(spec, figure.value)


def page(wanted: Wishes, found: Found) -> str:
    """One HTML file that needs nothing else: plots to look into, and every candidate with its reasons."""
    plots = "".join(_plots(wanted, found))
    rows = "".join(_row(wanted, found, one) for one in ordered(wanted, found))
    heads = "".join(f"<th>{escape(spec.title)}</th>" for spec in wanted.axes.values())
    limits = ", ".join(f"{name} {bound}" for name, bound in found.limits.items())
    untried = [one for one in found.trials if not one.steps]
    left = (
        f"<p>{len(untried)} candidates were not begun: {escape(', '.join(one.name for one in untried))}</p>"
        if untried
        else ""
    )
    out = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in found.excluded.items())
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Search</title>
<style>body{{font:15px/1.5 system-ui;margin:2rem auto;max-width:70rem;padding:0 1rem}}table{{border-collapse:collapse}}
td,th{{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:right}}
td:first-child,td:last-child{{text-align:left}}</style>
<h1>Search</h1><p>{escape(found.reason)}</p>
<p>Limits: {escape(limits)}. Took {found.spent_s:.0f} of {found.within_s:.0f} s.</p>
{plots}<table><tr><th>candidate</th>{heads}<th>standing</th></tr>{rows}</table>{left}
<h2>Not in the space</h2><ul>{out or "<li>nothing was left out</li>"}</ul></html>
"""


def _row(wanted: Wishes, found: Found, one: Trial) -> str:
    cells = "".join(f"<td>{_cell(spec, one.figures.get(spec.name))}</td>" for spec in wanted.axes.values())
    said = one.standing + (f": {one.reason}" if one.reason else "")
    return f"<tr><td>{mark(found, one)} {escape(one.name)}</td>{cells}<td>{escape(said)}</td></tr>"


def _plots(wanted: Wishes, found: Found) -> Iterator[str]:
    """The candidates along each two axes, with intervals, and how much the front held over time."""
    import plotly.graph_objects as go  # type: ignore[import-untyped]

    axes = list(wanted.axes.items())
    upright = next((spec for _, spec in axes if spec.group == "quality"), axes[0][1])
    library: bool | str = True
    for name, spec in axes:
        if spec is upright:
            continue
        drawn = go.Figure(layout={"title": f"{upright.title} and {spec.title}", "height": 420, "hovermode": "closest"})
        for standing, some in _groups(found, (upright, spec)).items():
            ends = [(one.figures[spec.name], one.figures[upright.name]) for one in some]
            drawn.add_trace(
                go.Scatter(
                    x=[x.value for x, _ in ends], y=[y.value for _, y in ends], name=standing, mode="markers",
                    text=[one.name for one in some], marker={"size": 11 if standing == "on the front" else 7},
                    error_x=_error([x for x, _ in ends]), error_y=_error([y for _, y in ends]),
                )
            )  # fmt: skip
        drawn.update_xaxes(title=f"{spec.title} ({name})", type="log" if spec.against else "linear")
        drawn.update_yaxes(title=upright.title)
        yield drawn.to_html(full_html=False, include_plotlyjs=library)
        library = False
    if found.volumes:
        grown = go.Figure(layout={"title": "What the front holds, over time", "height": 320})
        grown.add_trace(
            go.Scatter(
                x=[one.seconds for one in found.volumes], y=[one.volume for one in found.volumes], line={"shape": "hv"}
            )
        )
        grown.update_xaxes(title="seconds")
        grown.update_yaxes(title="volume over the reference, in doublings")
        yield grown.to_html(full_html=False, include_plotlyjs=library)


def _groups(found: Found, specs: tuple[MetricSpec, MetricSpec]) -> dict[str, list[Trial]]:
    groups: dict[str, list[Trial]] = {}
    for one in found.trials:
        if all(spec.name in one.figures for spec in specs):
            groups.setdefault("on the front" if one.name in found.front else one.standing, []).append(one)
    return groups


def _error(some: list[Figure]) -> dict[str, object]:
    return {
        "type": "data", "symmetric": False, "thickness": 1,
        "array": [one.ends[1] - one.value for one in some], "arrayminus": [one.value - one.ends[0] for one in some],
    }  # fmt: skip
