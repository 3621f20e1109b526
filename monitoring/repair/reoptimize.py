"""The way back from monitoring to optimization: what callers ask becomes the data of the pipeline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import psutil

from monitoring.collect.place import SLOTS, Place
from monitoring.collect.rows import NOT_CALLERS
from monitoring.collect.windows import Window
from monitoring.repair.actuator import ImpossibleError, in_background
from monitoring.repair.state import NAME, State
from tasks.errors import DataError
from tasks.params.whole import Whole
from tasks.records import lines
from tasks.records.base import Record, write_text
from tasks.serve.address import Known
from tasks.serve.log import prediction_log


class Request(Record):
    """What somebody who retrains models is asked for."""

    when: str
    why: str
    data: str  # the window's prompts and answers, where the log keeps texts


class PipelineReoptimizer:
    """The way back to optimization: by `make run` with the window as data, or by a request to those who train."""

    def __init__(self, where: Place, params: Whole) -> None:
        """Work for the server whose files are at `where`."""
        self._where, self._params = where, params
        self._started = where.folder / "reoptimize.json"

    def reoptimize(self) -> str:
        """Start `optimize` with the window as calibration and evaluation data.

        What passes its gates becomes a version with the alias champion; the router leads callers to it by its ramp.
        """
        needed = self._params.data.evaluation_rows + self._params.data.calibration_rows
        file, log = window_file(self._where, needed), self._where.folder / "reoptimize.log"
        started = in_background(["flows.run", "-S", f"data.source={file.resolve()}"], log)
        Known(pid=started.pid, created=psutil.Process(started.pid).create_time()).write(self._started)
        return f"optimization with what callers asked is under way, process {started.pid}, {log}"

    def retrain(self, why: str) -> str:
        """A file for whoever trains models."""
        try:
            data = str(window_file(self._where, 1))
        except ImpossibleError as problem:
            data = str(problem)
        file = self._where.folder / "retrain.json"
        Request(when=lines.now(), why=why, data=data).write(file)
        return f"asked for in {file}"

    def busy(self) -> str:
        """Whether the optimization runs."""
        try:
            runs = Known.read(self._started).process() is not None
        except DataError:
            return ""
        return "the optimization runs" if runs else ""


def window_file(where: Place, least: int, most: int = 4000) -> Path:
    """What callers asked since prompts became others, and the answers, as data for `optimize`; each prompt once.

    Of too few, those before as well. Raises ImpossibleError where the log keeps no texts, or too few altogether.
    """
    kept: dict[str, tuple[float, dict[str, str]]] = {}
    for name in SLOTS:
        folder = where.store.folder / name
        for one in prediction_log.read(folder) if folder.is_dir() else ():
            if one.prompt and one.answer and one.outcome == "ok" and not one.request_id.startswith(NOT_CALLERS):
                when = datetime.fromisoformat(one.when).timestamp()
                if one.prompt not in kept or when >= kept[one.prompt][0]:
                    kept[one.prompt] = (when, {"question": one.prompt, "answer": one.answer})
    if len(kept) < least:
        raise ImpossibleError(
            f"the log holds {len(kept)} different prompts with their texts, {least} are needed; "
            "with serve.log_text they are kept"
        )
    newest_first = sorted(kept.values(), key=lambda one: -one[0])
    seen = where.folder / NAME
    since = changed_since(State.read(seen).windows if seen.exists() else ())
    count = max(least, sum(when >= since for when, _ in newest_first))
    file = where.folder / "window.jsonl"
    write_text(file, "".join(json.dumps(one) + "\n" for _, one in newest_first[: min(count, most)]))
    return file


def changed_since(windows: Sequence[Window]) -> float:
    """When prompts became others: the end of the last window without drift, before those with it; 0 where none was.

    >>> made = [Window(number=n, began=n, ended=n + 1, version="1", rows=9, drift=d)
    ...         for n, d in enumerate(("none", "inconclusive", "drift", "drift"))]
    >>> changed_since(made), changed_since(made[2:])
    (1.0, 0.0)
    """
    return next((one.ended for one in reversed(windows) if one.drift == "none"), 0.0)
