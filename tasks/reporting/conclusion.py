"""The outcome in words: who won and by what, or who came nearest and what was missed."""

from __future__ import annotations

from tasks.records import Expectation, ScoreRow, Verdict
from tasks.reporting.figures import figure, gate_name, limit, share
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
    claims = _claims(winner, scores.reference)
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
    """How the winner compares with PyTorch bf16, the fair rival; empty when either was not measured."""
    rival = next((row for row in scores.rows if (row.backend, row.precision) == ("torch", "bf16")), None)
    words = {"decode_speedup": "decode {}", "prefill_speedup": "prefill {}", "memory_share": "{} of the memory"}
    found = {name: value(scores.winner, f"{name}_vs_bf16") for name in words}
    said = [words[name].format(figure(name, number)) for name, number in found.items() if number is not None]
    return f"Against {rival.variant}: {', '.join(said)}." if rival is not None and said else ""


def _claims(row: ScoreRow, reference: str) -> list[str]:
    decode, prefill = value(row, "decode_speedup"), value(row, "prefill_speedup")
    share, retention, ratio = (value(row, name) for name in ("memory_share", "retention", "perplexity_ratio"))
    speeds = [f"writes {figure('decode_speedup', decode)}" if decode is not None else ""]
    speeds += [f"reads prompts {figure('prefill_speedup', prefill)}" if prefill is not None else ""]
    speed = " and ".join(part for part in speeds if part)
    quality = [f"keeps {figure('retention', retention)} of its accuracy" if retention is not None else ""]
    quality += [f"perplexity ratio {figure('perplexity_ratio', ratio)}" if ratio is not None else ""]
    claims = [
        f"{speed} as fast as {reference}" if speed else "",
        f"takes {figure('memory_share', share)} of its memory" if share is not None else "",
        ", ".join(part for part in quality if part),
    ]
    return [claim for claim in claims if claim]


def missed(verdict: Verdict) -> list[str]:
    """What a variant missed and by how much, and what could not be judged; a phrase per gate or shared reason."""
    lost = [e for e in verdict.expectations if e.outcome != "pass"]
    blank: dict[str, list[str]] = {}
    for e in lost:
        if e.miss is None:
            blank.setdefault(e.reason, []).append(gate_name(e.gate).long)
    return [
        *(shortfall(e) for e in lost if e.miss is not None),
        *(f"{', '.join(names)}: {reason}" for reason, names in blank.items()),
    ]


def shortfall(expectation: Expectation) -> str:
    """One gate that was not passed, in words.

    >>> shortfall(Expectation(gate="max_perplexity_ratio", metric="perplexity_ratio", against="torch-fp32",
    ...           observed=1.21, minimum=None, maximum=1.1, outcome="fail", reason="1.21 is not at most 1.1", miss=0.1))
    'perplexity ratio 1.210, limit 1.1 (10.0% over)'
    """
    name = gate_name(expectation.gate).long
    if expectation.observed is None or expectation.miss is None:
        return f"{name}: {expectation.reason}"
    bound = bound_of(expectation)
    side = "short" if expectation.minimum is not None else "over"
    seen = figure(expectation.metric, expectation.observed)
    allowed = limit(expectation.metric, bound) if bound is not None else "none"
    return f"{name} {seen}, limit {allowed} ({share(expectation.miss)} {side})"


def nearest(scores: Scores, count: int = NEAREST) -> list[tuple[str, list[str]]]:
    """The candidates that came nearest, each with what it missed; empty when one passed."""
    if scores.winner is not None:
        return []
    found = [(name, scores.verdict(name)) for name in scores.gates.nearest[:count]]
    return [(name, missed(verdict)) for name, verdict in found if verdict is not None]
