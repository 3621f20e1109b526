"""What watching costs, and how far it can be trusted: a window of a million rows, false alarms, what is found, the log.

Rows are those of a real server that answers real prompts; windows are drawn from them again and again. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from monitoring.collect import rows, windows
from monitoring.collect.windows import Counted, Machine
from monitoring.judge import drift
from tasks.backends.sampling import Sampling
from tasks.measure.timing import peak_rss_bytes
from tasks.params.watching import Drift
from tasks.run.stage import run_stage
from tasks.serve.log.prediction_log import NAME, Prediction, PredictionLog
from tasks.serve.log.trace import GenerationRequest, RequestTrace
from tests.bench import harness
from tests.bench.harness import Figures, Limit, tell
from tests.drill.watched import sentences, watched

if TYPE_CHECKING:
    import pandas as pd

MILLION = 1_000_000
CALM, DETECTIONS = 200, 50  # windows without a fault, and of each fault at each size
ROWS = 300  # of a window
SIZES = (0.25, 0.5, 1.0)  # share of the window's requests that are others
ORDINARY, OTHERS = 900, 300  # requests that are really answered
LINES = 2000  # of the log, to time it

LIMITS = {
    "million_s": Limit(most=60),
    "million_peak_mb": Limit(most=1000),
    "false_alarm_share": Limit(most=0.02),
    "log_share_of_time": Limit(most=0.01),
    "language_found_100": Limit(least=0.9),
    "domain_found_100": Limit(least=0.9),
    "labels_found_100": Limit(least=0.9),
}


# -- a window of a million rows ----------------------------------------------------------------------------------------


def multiplied(log: Path, into: Path, count: int) -> float:
    """A log of `count` lines from the lines of `log`, one after the other in time; returns when it ends."""
    from datetime import UTC, datetime

    source = [json.loads(line) for line in log.read_bytes().splitlines()]
    began = time.time() - 0.01 * count
    into.mkdir(parents=True)
    with (into / NAME).open("w") as stream:
        for number in range(count):
            row = source[number % len(source)]
            when = datetime.fromtimestamp(began + 0.01 * number - row["whole_ms"] / 1e3, UTC)
            row["when"], row["request_id"] = when.isoformat(timespec="milliseconds"), f"req-{number}"
            stream.write(json.dumps(row) + "\n")
    return began + 0.01 * count


def million(log: Path, scratch: Path) -> dict[str, float]:
    """Collect and judge it in a process of its own: seconds and peak memory."""
    made = multiplied(log, scratch / "million", MILLION)
    tell(f"a log of {MILLION} lines, {(scratch / 'million' / NAME).stat().st_size / 1e6:.0f} MB")
    command = [sys.executable, "-m", "tests.bench.watching", "--judge", str(scratch / "million"), "--until", str(made)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def judge(folder: Path, until: float) -> dict[str, float]:
    """One window with everything in it (in the child)."""
    began = time.monotonic()
    found = rows.read([folder], 0.0, until + 1.0)
    made = windows.figures(found.table, 0.01 * MILLION, Machine(cores=1), Counted(), 1.0)
    current = rows.stratified(found.table, Drift().max_requests)
    reference = rows.stratified(found.table, Drift().reference_requests, seed=3)
    signals = drift.compare(reference, current, Drift())
    drift.verdict(signals, len(found.table), Drift().min_requests)
    seconds = time.monotonic() - began
    return {
        "million_s": round(seconds, 1), "million_peak_mb": round(peak_rss_bytes() / 1e6),
        "million_rows": len(found.table), "million_figures": sum(one.value is not None for one in made.values()),
    }  # fmt: skip


# -- what is found, and what is not there ------------------------------------------------------------------------------


def manuals(count: int) -> list[str]:
    """Prompts of another domain: passages of Python's own manual."""
    from pydoc_data.topics import topics

    text = " ".join(" ".join(words.split()) for words in topics.values())
    return [text[place : place + 200] for place in range(0, 200 * count, 200)]


def answered(scratch: Path) -> tuple[Path, dict[str, pd.DataFrame], float]:
    """Real answers to ordinary prompts and to others: the log, the tables, and seconds per request under load."""
    tables: dict[str, pd.DataFrame] = {}
    with watched(scratch / "rig") as one:
        ordinary = list(one.traffic.prompts)
        seconds = 0.0
        for name, prompts, count in (
            ("ordinary", ordinary, ORDINARY), ("language", sentences(600), OTHERS), ("domain", manuals(600), OTHERS),
        ):  # fmt: skip
            one.traffic.prompts = prompts
            time.sleep(2.0)  # what is under way is of the ones before
            began, sent = time.time(), one.traffic.sent
            while one.traffic.sent - sent < count:
                time.sleep(0.1)
            ended = time.time()
            if name == "ordinary":
                seconds = (ended - began) / count
            tables[name] = rows.read(one.watching.place.logs, began, ended).table
            tell(f"{len(tables[name])} {name} requests in {ended - began:.0f} s")
        log = one.rig.store.folder / one.rig.state().champion / NAME
        kept = scratch / "kept.jsonl"
        kept.write_bytes(log.read_bytes())
    return kept, tables, seconds


def trusted(tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    """False alarms, and what is found of each fault at each size."""
    import pandas as pd

    settings, dice = Drift(), np.random.default_rng(23)
    half = len(tables["ordinary"]) // 2
    mixed = tables["ordinary"].sample(frac=1.0, random_state=1)
    reference, pool = mixed.iloc[:half], mixed.iloc[half:]
    reference = reference.assign(judged=dice.random(len(reference)) < 0.9)
    figures: dict[str, float] = {}

    def verdict(current: pd.DataFrame) -> str:
        signals = drift.compare(reference, current, settings)
        right = (int(current["judged"].sum()), len(current))
        base = (int(reference["judged"].sum()), len(reference))
        return drift.verdict((*signals, drift.accuracy(base, right, settings)), len(current), settings.min_requests)[0]

    def drawn(table: pd.DataFrame, count: int, right: float = 0.9) -> pd.DataFrame:
        made = table.iloc[dice.integers(0, len(table), count)]
        return made.assign(judged=dice.random(count) < right)

    alarms = sum(verdict(drawn(pool, ROWS)) == "drift" for _ in range(CALM))
    figures |= {"calm_windows": CALM, "false_alarms": alarms, "false_alarm_share": alarms / CALM}
    tell(f"{alarms} of {CALM} calm windows are called drift")
    for name in ("language", "domain", "labels"):
        for size in SIZES:
            others, found = round(size * ROWS), 0
            for _ in range(DETECTIONS):
                table = tables.get(name, pool)
                bad = drawn(table, others, 0.25 if name == "labels" else 0.9)
                # An empty table beside it would have a say in the types of the columns (pandas warns of it).
                window = pd.concat([drawn(pool, ROWS - others), bad]) if others < ROWS else bad
                found += verdict(window) == "drift"
            figures[f"{name}_found_{100 * size:.0f}"] = found / DETECTIONS
            tell(f"{name}, {size:.0%} of the requests: found in {found} of {DETECTIONS} windows")
    return figures


def price(scratch: Path, seconds: float) -> dict[str, float]:
    """What a line of the log costs, beside what a request takes under load."""
    log = PredictionLog(scratch / "price", 1e9, 1)
    asked = GenerationRequest(
        ids=list(range(64)), new_tokens=12, sampling=Sampling(), endpoint="/v1/completions", prompt="x" * 200
    )
    now = time.monotonic()
    trace = RequestTrace(now - 0.1, now - 0.09, now - 0.08, now, [-0.3] * 12, 12, "length", ["x" * 40])
    took = []
    for _ in range(LINES):
        began = time.perf_counter()
        log.add(Prediction.of(asked, trace, now, "", "1", False))
        took.append(time.perf_counter() - began)
    log.close()
    line = float(np.median(took))
    return {"log_line_us": round(1e6 * line, 1), "request_ms": round(1e3 * seconds, 1),
            "log_share_of_time": round(line / seconds, 5)}  # fmt: skip


def bench(scratch: Path) -> Figures:
    """Everything."""
    log, tables, seconds = answered(scratch)
    return {**million(log, scratch), **price(scratch, seconds), **trusted(tables)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `make bench-monitor`; exit code 1 when a limit is not kept."""
    made = harness.parser("bench.watching", __doc__)
    made.add_argument("--judge", type=Path, help=argparse.SUPPRESS)
    made.add_argument("--until", type=float, default=0.0, help=argparse.SUPPRESS)
    arguments = made.parse_args(argv)
    if arguments.judge is not None:
        return run_stage(lambda: print(json.dumps(judge(arguments.judge, arguments.until))))
    return harness.main("bench-monitor", bench, LIMITS)


if __name__ == "__main__":
    raise SystemExit(main())
