"""The review of a week: versions, traffic, alerts, drift, energy, what was repaired, and which looks were missed."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from monitoring.collect.place import BOOK, FOLDER, WINDOWS
from monitoring.collect.windows import Window
from monitoring.repair.plan import Entry
from tasks.promotion.store import TRANSITIONS, Transition, transitions
from tasks.records.base import write_text
from tasks.records.lines import entries
from tasks.run.stage import run_stage

WEEK_S = 7 * 86_400.0
MISSED = 1.5  # times the usual distance between two windows


def windows(file: Path, since: float) -> list[Window]:
    """Windows that ended since then."""
    return [one for one in entries(file, Window)[0] if one.ended >= since]


def repairs(book: Path, since: float) -> list[Entry]:
    """Lines of the book of repairs since then."""
    return [one for one in entries(book, Entry)[0] if datetime.fromisoformat(one.when).timestamp() >= since]


def gaps(seen: Sequence[Window], every: float) -> list[tuple[float, float]]:
    """Times without a look: where a window is far longer than they are meant to be.

    >>> made = [Window(number=n, began=b, ended=e, version="1", rows=0) for n, b, e in ((1, 0, 10), (2, 10, 55))]
    >>> gaps(made, 10.0)
    [(10.0, 55.0)]
    """
    return [(one.began, one.ended) for one in seen if one.ended - one.began > MISSED * every]


def review(seen: Sequence[Window], book: Sequence[Entry], moves: Sequence[Transition], every: float, now: float) -> str:
    """The week as Markdown. Pure."""
    rows = sum(one.rows for one in seen)
    lines = [f"# The week until {_day(now)}", "", f"{len(seen)} windows, {rows} requests.", ""]
    lines += ["## Versions", *_versions(seen), ""]
    lines += ["## Moves of the traffic", *(_moves(moves) or ["None."]), ""]
    drift = Counter(one.drift for one in seen)
    lines += ["## Drift", ", ".join(f"{name}: {count}" for name, count in drift.items()) or "No window.", ""]
    found = [f"* {one.when} {one.alert} (version {one.version}): {one.step} {one.outcome}: {one.said}" for one in book]
    lines += ["## Incidents and what was done", *(found or ["None."]), ""]
    missed = [f"* {_time(began)} to {_time(ended)}" for began, ended in gaps(seen, every)]
    lines += ["## Times without a look", *(missed or ["None."]), ""]
    problems: Counter[str] = Counter()
    for one in seen:
        problems.update(one.problems)
    lines += [
        "## Lines of the log that were left out",
        *([f"* {n} x {name}" for name, n in problems.items()] or ["None."]),
    ]
    return "\n".join(lines) + "\n"


def _versions(seen: Sequence[Window]) -> list[str]:
    lines = ["| version | windows | requests | time to first token p95, ms | errors | energy of a request |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for version in dict.fromkeys(one.version for one in seen if one.version):
        own = [one for one in seen if one.version == version]
        cells = [version, str(len(own)), str(sum(one.rows for one in own))]
        for name in ("first_token_p95_ms", "error_rate", "energy_j_per_request"):
            values = [one.figures[name].value for one in own if name in one.figures]
            told = [value for value in values if value is not None]
            cells.append(f"{median(told):.4g} (median of {len(told)} windows)" if told else "not measured")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _moves(moves: Sequence[Transition]) -> list[str]:
    return [f"* {one.when} {one.who}: {one.before} to {one.after}, {one.share:g}%: {one.why[:200]}" for one in moves]


def _day(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d")


def _time(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S")


def write(folder: Path = FOLDER, book: Path = BOOK, moves: Path = TRANSITIONS, now: float | None = None) -> Path:
    """Write the review of the last seven days; returns its file."""
    from tasks.params.whole import load_whole

    now = time.time() if now is None else now
    since = now - WEEK_S
    recent = [one for one in transitions(moves) if datetime.fromisoformat(one.when).timestamp() >= since]
    every = load_whole().monitor.window_s
    text = review(windows(folder / WINDOWS, since), repairs(book, since), recent, every, now)
    file = folder / "weekly" / f"{_day(now)}.md"
    write_text(file, text)
    return file


def main(argv: list[str] | None = None) -> int:
    """Write it and say where."""
    argparse.ArgumentParser(prog="python -m monitoring.show.weekly", description=__doc__).parse_args(argv)
    return run_stage(lambda: print(write()))


if __name__ == "__main__":
    raise SystemExit(main())
