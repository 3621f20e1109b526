"""The outcome in words: who won and by what, or who came nearest and what was missed."""

from __future__ import annotations

from tasks.kinds.catalogue import VS_RIVAL, Catalogue, MetricSpec
from tasks.records.scores import ScoreRow
from tasks.records.verdict import Expectation, Verdict
from tasks.reporting.figures import figure, limit, share
from tasks.reporting.findings import Scores, bound_of, value

NEAREST = 3  # candidates that are named when nothing passed


def title(scores: Scores) -> str:
    """The outcome in a few words."""
    if scores.winner is not None:
        return f"{scores.winner.variant} passes every gate"
    return {
        "inconclusive": "No candidate passed; some could not be decided",
        "fail": "No candidate passed the gates",
        "unreachable": "What the gates ask cannot be reached on this device",
        "pass": "The gates passed",
    }[scores.gates.outcome]


def sentence(scores: Scores) -> str:
    """The winner's case in a sentence, or why there is none."""
    winner = scores.winner
    if winner is None:
        return _tally(scores) or opened(scores, scores.gates.reason)
    claims = _claims(scores.known, winner, scores.reference)
    return opened(scores, "; ".join(claims) or scores.gates.reason)


def _tally(scores: Scores) -> str:
    """How many candidates ended how; empty when there was none to judge."""
    verdicts = [scores.verdict(row.variant) for row in scores.rows if row.role == "candidate"]
    outcomes = [verdict.outcome for verdict in verdicts if verdict is not None]
    words = {
        "pass": "passed",
        "fail": "failed",
        "unreachable": "could not pass on this device",
        "inconclusive": "could not be decided",
    }
    counted = [f"{outcomes.count(o)} {said}" for o, said in words.items() if o in outcomes]
    return f"Of {len(outcomes)} judged, {' and '.join(counted)}." if outcomes else ""


def opened(scores: Scores, text: str) -> str:
    """A phrase as a sentence; a variant's name at its start keeps its small letters."""
    named = any(text.startswith(row.variant) for row in scores.rows)
    return f"{text if named else text[:1].upper() + text[1:]}".rstrip(".") + "."


def against_bf16(scores: Scores) -> str:
    """Compare the winner with PyTorch bf16, the fair rival; empty when either was not measured."""
    rival = next((row for row in scores.rows if (row.backend, row.precision) == ("torch", "bf16")), None)
    said = [
        spec.versus.format(figure(spec, number))
        for spec in scores.known
        if spec.versus and (number := value(scores.winner, spec.name + VS_RIVAL)) is not None
    ]
    return f"Against {rival.variant}: {', '.join(said)}." if rival is not None and said else ""


def _claims(known: Catalogue, row: ScoreRow, reference: str) -> list[str]:
    """Speed, memory, quality: what the winner's figures say, a phrase each."""
    said: dict[str, list[str]] = {"speed": [], "memory": [], "quality": []}
    for spec in known:
        number = value(row, spec.name)
        if spec.claim and number is not None:
            said.setdefault(spec.group, []).append(spec.claim.format(figure(spec, number)))
    fast = " and ".join(said.pop("speed"))
    return [*([f"{fast} as fast as {reference}"] if fast else []), *(", ".join(one) for one in said.values() if one)]


def missed(known: Catalogue, verdict: Verdict) -> list[str]:
    """List what a variant missed and what could not be judged; a phrase per gate or shared reason."""
    lost = [e for e in verdict.expectations if e.outcome != "pass"]
    blank: dict[str, list[str]] = {}
    for e in lost:
        if e.miss is None:
            blank.setdefault(e.reason, []).append(known[e.metric].title)
    return [
        *(shortfall(known[e.metric], e) for e in lost if e.miss is not None),
        *(f"{', '.join(names)}: {reason}" for reason, names in blank.items()),
    ]


def shortfall(spec: MetricSpec, expectation: Expectation) -> str:
    """Say in words how a gate was not passed.

    >>> from tasks.kinds.table import catalogue
    >>> shortfall(catalogue()["perplexity_ratio"], Expectation(
    ...     gate="max_perplexity_ratio", metric="perplexity_ratio", against="torch-fp32", observed=1.21,
    ...     minimum=None, maximum=1.1, outcome="fail", reason="1.21 is not at most 1.1", miss=0.1))
    'perplexity ratio 1.210, limit 1.1 (10.0% over)'
    """
    if expectation.observed is None or expectation.miss is None:
        return f"{spec.title}: {expectation.reason}"
    bound = bound_of(expectation)
    side = "short" if expectation.minimum is not None else "over"
    seen = figure(spec, expectation.observed)
    allowed = limit(spec, bound) if bound is not None else "none"
    return f"{spec.title} {seen}, limit {allowed} ({share(expectation.miss)} {side})"


def nearest(scores: Scores, count: int = NEAREST) -> list[tuple[str, list[str]]]:
    """The candidates that came nearest, each with what it missed; empty when one passed."""
    if scores.winner is not None:
        return []
    found = [(name, scores.verdict(name)) for name in scores.gates.nearest[:count]]
    return [(name, missed(scores.known, verdict)) for name, verdict in found if verdict is not None]
