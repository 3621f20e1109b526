"""The prediction logs as a table: a window of them read in blocks, whatever state their lines are in.

What cannot be read is counted and named; it never ends a window. A line is where its answer ended: the log is in that
order, as a line is written then, and a window that has passed is whole.
"""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from tasks.serve.log import log_files
from tasks.serve.log.sketch import WIDTH

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = (
    "prompt_tokens", "new_tokens", "queue_ms", "first_token_ms", "inter_token_ms", "whole_ms", "confidence", "rarity",
)  # fmt: skip
NEVER_NONE = ("prompt_tokens", "new_tokens", "whole_ms")
WORDS = ("version", "slot", "endpoint", "outcome", "finish", "client")
SKETCH = tuple(f"sketch_{place}" for place in range(WIDTH))
NOT_CALLERS = ("mirror-", "probe-")  # how ids of requests begin that the router made up
BACKWARDS_S = 1.0  # a step back of the clock that is more than two answers that ended at once


@dataclass
class Columns:
    """Values of the rows read so far; numbers in 4 bytes each, words as numbers of a short list."""

    numbers: dict[str, array[float]] = field(default_factory=lambda: {name: array("f") for name in (*NUMBERS, *SKETCH)})
    words: dict[str, array[int]] = field(default_factory=lambda: {name: array("i") for name in WORDS})
    lists: dict[str, dict[str, int]] = field(default_factory=lambda: {name: {} for name in WORDS})
    ended: array[float] = field(default_factory=lambda: array("d"))
    suspicious: array[int] = field(default_factory=lambda: array("b"))
    judged: array[float] = field(default_factory=lambda: array("f"))  # by callers; NaN where nobody did


@dataclass(frozen=True)
class Rows:
    """One window: a table, a row per request, and what was wrong with lines."""

    table: pd.DataFrame
    problems: Mapping[str, int]


def read(
    folders: Sequence[Path],
    since: float,
    until: float,
    versions: Collection[str] = (),
    judged: Mapping[str, float] | None = None,
    most: int | None = None,
    told_since: float = 0.0,
) -> Rows:
    """Callers' requests that ended in [since, until), seconds since the epoch, of all logs in `folders`.

    `versions` are those that are known, where that is to be checked; `judged` are callers' judgements by request id.
    Of more than `most` rows, the newest are kept. What is wrong with a line is told where the line before it ended at
    `told_since` or later: a line that is torn has no time of its own, and a window tells of its own lines alone.
    """
    columns, problems = Columns(), Counter[str]()
    for folder in folders:
        before = 0.0
        for line in _lines(folder, since):
            own = not before or before >= max(since, told_since)
            found = _parsed(line, problems if own else Counter())
            if found is None:
                continue
            row, ended = found
            if ended < before - BACKWARDS_S and own:
                problems["the clock went backwards"] += 1
            before = ended
            if since <= ended < until and not row["request_id"].startswith(NOT_CALLERS):
                _add(columns, row, ended, problems if ended >= told_since else Counter(), judged or {})
    table = _table(columns)
    if versions:
        unknown = ~table["version"].isin(list(versions))
        if unknown.any():
            for name, count in table.loc[unknown & (table["ended"] >= told_since), "version"].value_counts().items():
                if count:
                    problems[f"unknown version {name}"] += int(count)
            table = table[~unknown]
    if most is not None and len(table) > most:
        problems["more rows than are looked at"] += len(table) - most
        table = table.nlargest(most, "ended")
    return Rows(table.reset_index(drop=True), dict(problems))


def texts(
    folders: Sequence[Path], since: float, until: float, version: str, count: int, seed: int = 17
) -> list[tuple[str, str, str]]:
    """Endpoint, prompt and answer of at most `count` whole answers of a window, drawn at random; none without texts.

    One pass (reservoir sampling, Vitter's algorithm R, 1985).
    """
    dice, kept, seen = random.Random(seed), list[tuple[str, str, str]](), 0  # noqa: S311 - chance, not a secret
    for line in (line for folder in folders for line in _lines(folder, since)):
        found = _parsed(line, Counter())
        if found is None or not since <= found[1] < until:
            continue
        row = found[0]
        prompt, answer = row.get("prompt"), row.get("answer")
        if not (prompt and answer) or row.get("outcome") != "ok" or row.get("version") != version:
            continue
        if row["request_id"].startswith(NOT_CALLERS):
            continue
        seen += 1
        one = (str(row.get("endpoint", "")), str(prompt), str(answer))
        if len(kept) < count:
            kept.append(one)
        elif (place := dice.randrange(seen)) < count:
            kept[place] = one
    return kept


def _lines(folder: Path, since: float) -> Iterator[bytes]:
    """Lines of a log's files that may hold some from `since` on, the oldest first."""
    with log_files.opened(folder, since) as found:
        for file in found:
            yield from log_files.lines(file)


def _parsed(line: bytes, problems: Counter[str]) -> tuple[dict[str, Any], float] | None:
    if not line.strip():
        return None
    try:
        row = orjson.loads(line)
        whole = row["whole_ms"]
        ended = datetime.fromisoformat(row["when"]).timestamp() + whole / 1e3
        if not (math.isfinite(ended) and isinstance(row["request_id"], str)):
            raise ValueError
        return row, ended
    except (orjson.JSONDecodeError, UnicodeDecodeError):
        problems["torn or no JSON"] += 1
    except (KeyError, TypeError, ValueError, OverflowError):
        problems["without id, time or length"] += 1
    return None


def _add(
    columns: Columns, row: Mapping[str, Any], ended: float, problems: Counter[str], judged: Mapping[str, float]
) -> None:
    get = row.get
    for name in NUMBERS:
        value = get(name)
        if value is None:
            if name in NEVER_NONE:
                problems[f"no {name}"] += 1
            value = math.nan
        elif type(value) not in (int, float):
            problems[f"{name} is no number"] += 1
            value = math.nan
        columns.numbers[name].append(value)
    parts = get("sketch") or ()
    if len(parts) != WIDTH:
        parts = (math.nan,) * WIDTH
    for name, value in zip(SKETCH, parts, strict=True):
        columns.numbers[name].append(value if type(value) in (int, float) else math.nan)
    for name in WORDS:
        word, known = get(name), columns.lists[name]
        word = word if isinstance(word, str) else ""
        number = known.get(word)
        if number is None:
            number = known[word] = len(known)
        columns.words[name].append(number)
    columns.ended.append(ended)
    columns.suspicious.append(get("suspicious") is True)
    columns.judged.append(judged.get(row["request_id"], math.nan) if judged else math.nan)


def _table(columns: Columns) -> pd.DataFrame:
    import pandas as pd

    made: dict[str, Any] = {"ended": np.frombuffer(columns.ended, dtype=np.float64)}
    made |= {name: np.frombuffer(values, dtype=np.float32) for name, values in columns.numbers.items()}
    for name, values in columns.words.items():
        known = list(columns.lists[name])
        made[name] = pd.Categorical.from_codes(
            np.frombuffer(values, dtype=np.int32), categories=pd.Index(known, dtype=object)
        )
    made["suspicious"] = np.frombuffer(columns.suspicious, dtype=np.int8).astype(bool)
    made["judged"] = np.frombuffer(columns.judged, dtype=np.float32)
    return pd.DataFrame(made, copy=False)


def stratified(table: pd.DataFrame, most: int, seed: int = 17) -> pd.DataFrame:
    """At most `most` rows, of every version, endpoint and outcome its share, and of a rare one at least a row.

    Largest remainders, so that the shares add up.
    """
    if len(table) <= most:
        return table
    dice = np.random.default_rng(seed)
    groups = list(table.groupby(["version", "endpoint", "outcome"], observed=True).indices.values())
    exact = [len(rows) * most / len(table) for rows in groups]
    take = [max(1, math.floor(share)) for share in exact]
    for place in sorted(range(len(groups)), key=lambda place: take[place] - exact[place]):
        if sum(take) >= most:
            break
        take[place] += take[place] < len(groups[place])
    while sum(take) > most and max(take) > 1:  # what rare groups were given comes from the largest
        take[take.index(max(take))] -= 1
    chosen = [dice.choice(rows, count, replace=False) for rows, count in zip(groups, take, strict=True)]
    return table.iloc[np.sort(np.concatenate(chosen))].reset_index(drop=True)
