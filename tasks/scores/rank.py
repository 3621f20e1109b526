"""Rank the candidates by the user's weights, and say why in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tasks.kinds.catalogue import Catalogue
from tasks.kinds.demands import weights
from tasks.records.scores import Metric, Ranked, Recommendation, ScoreRow
from tasks.scores.pareto import Front, Objective, Point, front


def recommend(known: Catalogue, rows: Sequence[ScoreRow], reference: str, given: Mapping[str, float]) -> Recommendation:
    """Rank the measured candidates; the front also holds the reference and the rivals, which never win.

    Utility, 0 to 1: each objective is scaled between the worst (0) and the best (1) of the measured candidates and
    the reference, speeds and memory by their logarithm so that 20 -> 40 tok/s counts as much as 40 -> 80, and the
    scaled values are added with the weights' shares. The reference anchors the scale: what is usually 0 in speed and
    memory and 1 in quality is no gain and no loss against it, not merely the worst of the others. An objective that
    no candidate has measured is left out (peak memory is replaced by the artifact's size); one that only this
    candidate lacks earns it nothing. All equal scales to 1.
    """
    candidates = [row for row in rows if row.role == "candidate" and row.status == "ok"]
    objectives = _objectives(known, candidates)
    points = {row.variant: _point(row, objectives) for row in rows if row.status == "ok"}
    found = front(points, objectives)
    shares, fallback = _shares(weights(known, given), objectives)
    compared = {name: points[name] for name in (*(c.variant for c in candidates), reference) if name in points}
    scaled = {o.name: normalise(compared, o) for o in objectives}
    utility = {c.variant: sum(shares[name] * s.get(c.variant, 0.0) for name, s in scaled.items()) for c in candidates}
    ordered = sorted(sorted(candidates, key=lambda row: row.variant), key=lambda row: _order(known, row, utility))
    roles = {row.variant: row.role for row in rows}
    ranking = tuple(
        Ranked(
            variant=row.variant,
            rank=rank,
            utility=round(utility[row.variant], 6),
            on_front=row.variant in found.members,
            reason=f"{_standing(row, found, roles, objectives)}; {_parts(row.variant, scaled, shares)}",
        )
        for rank, row in enumerate(ordered, 1)
    )
    reason = _sentence(known, rows, ordered, reference, utility, shares, objectives) + fallback
    return Recommendation(
        reference=reference, rows=tuple(rows), front=found.members, ranking=ranking, reason=reason.strip()
    )


def normalise(points: Mapping[str, Point], objective: Objective) -> dict[str, float]:
    """Scale one objective to 0 (worst) .. 1 (best) among the points that have it.

    >>> normalise({"a": {"mb": 128}, "b": {"mb": 256}, "c": {"mb": 512}}, Objective("memory", "mb", "lower", "log"))
    {'a': 1.0, 'b': 0.5, 'c': 0.0}
    """
    known = {name: point[objective.metric] for name, point in points.items() if objective.metric in point}
    felt = {name: math.log2(value) if objective.scale == "log" else value for name, value in known.items()}
    if not felt:
        return {}
    low, high = min(felt.values()), max(felt.values())
    if high == low:
        return dict.fromkeys(felt, 1.0)
    rising = {name: (value - low) / (high - low) for name, value in felt.items()}
    return rising if objective.better == "higher" else {name: 1 - value for name, value in rising.items()}


def all_objectives(known: Catalogue) -> tuple[tuple[Objective, ...], dict[str, Objective]]:
    """List what candidates are ranked by, and what stands in, by the name of the objective it replaces."""
    found = [
        (Objective(axis.name, spec.name, spec.better, axis.scale, axis.unit), axis.stands_in)
        for spec in known.having("axis")
        if (axis := spec.axis) is not None
    ]
    return tuple(o for o, stands_in in found if not stands_in), {o.name: o for o, stands_in in found if stands_in}


def _objectives(known: Catalogue, candidates: Sequence[ScoreRow]) -> tuple[Objective, ...]:
    """What the candidates can be compared by: measured for at least one of them."""

    def measured(objective: Objective) -> bool:
        return any(_usable(row.metrics.get(objective.metric), objective) for row in candidates)

    wanted, in_place = all_objectives(known)
    chosen = (o if measured(o) else in_place.get(o.name, o) for o in wanted)
    return tuple(objective for objective in chosen if measured(objective))


def _usable(metric: Metric | None, objective: Objective) -> bool:
    if metric is None or metric.state != "measured" or metric.value is None:
        return False
    return math.isfinite(metric.value) and (objective.scale == "linear" or metric.value > 0)


def _point(row: ScoreRow, objectives: Sequence[Objective]) -> dict[str, float]:
    return {
        o.metric: metric.value
        for o in objectives
        if _usable(metric := row.metrics.get(o.metric, Metric(state="missing")), o) and metric.value is not None
    }


def _shares(asked: Mapping[str, float], objectives: Sequence[Objective]) -> tuple[dict[str, float], str]:
    """The weights' shares among the objectives that are known; equal ones when the user weighs none of these."""
    wanted = {o.name: float(asked.get(o.name, 0.0)) for o in objectives}
    total = sum(wanted.values())
    if total > 0:
        return {name: weight / total for name, weight in wanted.items()}, ""
    if not wanted:
        return {}, ""
    return dict.fromkeys(wanted, 1 / len(wanted)), " None of the weighted objectives is known, so all count the same."


def _order(known: Catalogue, row: ScoreRow, utility: Mapping[str, float]) -> tuple[float, ...]:
    """Best utility first; ties by quality, then size; the sort keeps names in order."""
    wanted, in_place = all_objectives(known)
    linear = [o.metric for o in wanted if o.scale == "linear"]
    ties = (*linear, *(o.metric for o in in_place.values()))
    return (-utility[row.variant], *(_or_inf(row, name) for name in ties))


def _or_inf(row: ScoreRow, name: str) -> float:
    metric = row.metrics.get(name)
    return metric.value if metric is not None and metric.value is not None else math.inf


def _standing(row: ScoreRow, found: Front, roles: Mapping[str, str], objectives: Sequence[Objective]) -> str:
    """Where the candidate stands to the front."""
    if row.variant in found.members:
        return "on the Pareto front"
    if row.variant in found.dominated:
        others = (f"{name} ({roles[name]})" if roles[name] != "candidate" else name
                  for name in found.dominated[row.variant])  # fmt: skip
        return f"beaten or equalled in everything by {', '.join(others)}"
    lacking = [o for o in objectives if not _usable(row.metrics.get(o.metric), o)]
    why = dict.fromkeys(row.metrics[o.metric].reason or "no value" for o in lacking if o.metric in row.metrics)
    return f"not on the front, {found.excluded[row.variant]}" + (f" ({'; '.join(why)})" if why else "")


def _parts(variant: str, scaled: Mapping[str, Mapping[str, float]], shares: Mapping[str, float]) -> str:
    """The terms of the utility, as text."""
    return ", ".join(
        f"{name} {s[variant]:.2f} x {shares[name]:.0%}" if variant in s else f"{name} unknown x {shares[name]:.0%}"
        for name, s in scaled.items()
    )


def _sentence(
    known: Catalogue,
    rows: Sequence[ScoreRow],
    ordered: Sequence[ScoreRow],
    reference: str,
    utility: Mapping[str, float],
    shares: Mapping[str, float],
    objectives: Sequence[Objective],
) -> str:
    """The recommendation in words."""
    if not ordered:
        lost = [f"{row.variant} {row.status} ({row.reason})" for row in rows if row.role == "candidate"]
        return f"No candidate was made and measured: {'; '.join(lost) or 'the plan has none'}."
    best = ordered[0]
    asked = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    facts = ", ".join(_fact(known, best, o, reference) for o in objectives)
    text = f"{best.variant} ranks first of {len(ordered)} by {asked} (utility {utility[best.variant]:.2f}): {facts}"
    if len(ordered) > 1:
        text += f"; next is {ordered[1].variant} ({utility[ordered[1].variant]:.2f})"
    return f"{text}.{_gaps(known, best, objectives)}"


def _fact(known: Catalogue, row: ScoreRow, objective: Objective, reference: str) -> str:
    metric, axis = row.metrics.get(objective.metric), known[objective.metric].axis
    if metric is None or metric.value is None:
        return f"{objective.name} unknown"
    if objective.scale == "linear":
        words = (axis.words if axis is not None else "") or objective.name
        return f"{words} {metric.value:.2g} {objective.unit}"
    shown = f"{metric.value:.3g}" if metric.value < 100 else f"{metric.value:.0f}"
    text = f"{objective.name} {shown} {objective.unit}"
    ratio = known.ratio_of(objective.metric)
    beside = row.metrics.get(ratio.name) if ratio is not None else None
    stands_in = axis is not None and axis.stands_in
    if ratio is None or beside is None or beside.value is None or stands_in:
        return text
    times = f"{beside.value:.1f}x" if ratio.against == "speedup" else f"{beside.value:.0%} of"
    return f"{text} ({times} {reference})"


def _gaps(known: Catalogue, best: ScoreRow, objectives: Sequence[Objective]) -> str:
    """What the ranking had to do without."""
    used = {o.metric for o in objectives}
    wanted, in_place = all_objectives(known)
    gone = [o for o in wanted if o.metric not in used]
    if not gone:
        return ""
    why = dict.fromkeys(best.metrics[o.metric].reason for o in gone if o.metric in best.metrics)
    stand_ins = [(o, in_place[o.name]) for o in gone if o.name in in_place and in_place[o.name].metric in used]
    said = "".join(f"; {_words(known, other)} stands in for {o.name}" for o, other in stand_ins)
    return f" Ranked without {', '.join(o.name for o in gone)} ({'; '.join(w for w in why if w)}){said}."


def _words(known: Catalogue, objective: Objective) -> str:
    axis = known[objective.metric].axis
    return (axis.words if axis is not None else "") or known[objective.metric].title
