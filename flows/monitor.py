"""Watch the server: a window of its traffic as figures, drift, alerts, and repairs that are really made.

Without --every one window is taken, from where the last one ended. `--show` says what was seen last and does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from flows import progress, server
from monitoring import shadow, watch
from monitoring.diagnose import Setting
from monitoring.hand import Choice, Defaults, Hand, ImpossibleError, Long, RouterHand, in_background
from monitoring.notices import sender
from monitoring.rows import NOT_CALLERS
from monitoring.shadow import Asked, Read
from monitoring.watch import BOOK, FOLDER, Place, State, Watch, World
from monitoring.windows import Window
from tasks import config, ledger, paths
from tasks.config import Params
from tasks.errors import EXIT_OK, ConfigError, DataError
from tasks.packaging.manifest import CONTENTS, Contents
from tasks.promotion import store as rollouts
from tasks.promotion.__main__ import packaged
from tasks.promotion.rollout import Slot
from tasks.promotion.store import Store
from tasks.records import Ceiling, Record, write_text
from tasks.serve import prediction_log
from tasks.stage import run_stage

if TYPE_CHECKING:
    import pandas as pd

WITHIN_S = 0.5  # of its time, the loop wakes up
SHOWN = ("requests_per_s", "error_rate", "first_token_p95_ms", "inter_token_p50_ms", "memory_mb", "confidence_p50")


class Started(Record):
    """The process of an optimization."""

    pid: int
    created: float


class Request(Record):
    """What somebody who retrains models is asked for."""

    when: str
    why: str
    data: str  # the window's prompts and answers, where the log keeps texts


def place(folder: Path = rollouts.FOLDER, url: str = "", kept: Path = FOLDER, book: Path = BOOK) -> Place:
    """Where the server of `folder` and its monitor keep what they know."""
    return Place(Store(folder), kept, book, rollouts.TRANSITIONS, url)


def world(where: Place, params: Params, packages: Sequence[Path] = (), long: Long | None = None) -> World:
    """What is served, which versions there are, and who may change it."""
    state = where.store.state()
    slot = state.slot(state.champion)
    defaults = Defaults(cores=tuple(sorted(_usable())), slots=params.serve.slots, context=params.serve.context_tokens)
    hand: Hand | None = None
    if where.store.runs():
        hand = RouterHand(
            where.store, defaults, lambda: choices(params.track.model_name, packages), long or Loop(where, params)
        )  # fmt: skip
    return World(
        setting=_setting(slot, params, defaults),
        versions=_versions(where, slot),
        hand=hand,
        send=sender(params.monitor.notify),
        read=_reference(where, slot),
        link=lambda window: _link(where, params.track.model_name, window),
        evaluated=_evaluated(),
    )


def _reference(where: Place, slot: Slot) -> Callable[[Sequence[Asked]], Sequence[Read]] | None:
    """The fp32 reference, where this checkout has it; the tokenizer is that of what is served."""
    tokenizer = (Path(slot.package) if slot.package else paths.PACKAGE) / "tokenizer"
    if not paths.SOURCE.exists() or not tokenizer.is_dir():
        return None
    return lambda asked: shadow.read(paths.MODEL, tokenizer, asked, where.folder / "shadow.log")


def _link(where: Place, model: str, window: Window) -> None:
    """Tag the version in the registry with the verdict; it is asked in the background, as that takes seconds."""
    if window.version.isdigit():
        said = f"{window.drift} in window {window.number}: {window.why}"[:500]
        in_background(
            ["tasks.promotion.registrar", model, "tag", window.version, "drift", said], where.folder / "link.log"
        )


def _usable() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _setting(slot: Slot, params: Params, defaults: Defaults) -> Setting:
    folder = Path(slot.package) if slot.package else paths.PACKAGE
    try:
        contents = Contents.read(folder / CONTENTS)
    except DataError:
        return Setting(backend="torch", version=slot.version, threads=len(defaults.cores), slots=defaults.slots,
                       context=defaults.context)  # fmt: skip
    return Setting(
        backend=contents.backend,
        version=slot.version or contents.results_digest[:12],
        threads=slot.running.threads or len(slot.running.cores or defaults.cores),
        slots=slot.running.slots or defaults.slots,
        context=slot.running.context or defaults.context,
        artifact_mb=size_mb(folder / "model"),
        bandwidth_gb_s=_bandwidth(),
    )


def _bandwidth() -> float | None:
    """What `make run` measured on this machine; None where it did not."""
    try:
        return Ceiling.read(paths.CEILING).memory_gb_s.p50
    except DataError:
        return None


def _versions(where: Place, slot: Slot) -> tuple[str, ...]:
    """Versions that a log may name: those of the router's book; not checked where no router ever was."""
    if not slot.version:
        return ()
    book = rollouts.transitions(where.transitions)
    return tuple({slot.version, *(name for one in book for name in (one.champion, one.challenger) if name)})


def _evaluated() -> pd.DataFrame | None:
    """Prompts of the evaluation data as a log would tell of them; None where there are none."""
    import pandas as pd

    from monitoring.rows import SKETCH
    from tasks.models.text_data import EvaluationSet
    from tasks.serve.sketch import rarity, sketch

    try:
        rows = EvaluationSet.read(paths.EVALUATION_SET).rows
    except DataError:
        return None
    made = pd.DataFrame({"rarity": [rarity(row.ids) for row in rows]})
    return made.join(pd.DataFrame([sketch(row.ids) for row in rows], columns=list(SKETCH)))


def size_mb(folder: Path) -> float:
    """Of a model's files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def choices(model: str, packages: Sequence[Path] = ()) -> list[Choice]:
    """Every version that passed: the packages that are named, else the registry's; asked in a process of its own."""
    if packages:
        slots = [packaged(folder) for folder in packages]
    else:
        command = [sys.executable, "-m", "tasks.promotion.registrar", model, "passed"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        if done.returncode:
            raise ImpossibleError(f"the registry does not tell which versions passed: {done.stderr.strip()[-300:]}")
        slots = [Slot.model_validate(one) for one in json.loads(done.stdout.strip().splitlines()[-1])]
    return [
        Choice(version=one.version, package=one.package, manifest_sha256=one.manifest_sha256,
               size_mb=size_mb(Path(one.package) / "model"))
        for one in slots
    ]  # fmt: skip


class Loop:
    """The way back to optimization: by `make run` with the window as data, or by a request to those who train."""

    def __init__(self, where: Place, params: Params) -> None:
        """Of one server."""
        self._where, self._params = where, params

    def reoptimize(self) -> str:
        """Start `optimize` with the window as calibration and evaluation data.

        What passes its gates becomes a version with the alias champion; the router leads callers to it by its ramp.
        """
        needed = self._params.data.evaluation_rows + self._params.data.calibration_rows
        file, log = window_file(self._where, needed), self._where.folder / "reoptimize.log"
        started = in_background(["flows.run", "-S", f"data.source={file.resolve()}"], log)
        process = psutil.Process(started.pid)
        Started(pid=process.pid, created=process.create_time()).write(self._where.folder / "reoptimize.json")
        return f"optimization with what callers asked is under way, process {started.pid}, {log}"

    def retrain(self, why: str) -> str:
        """A file for whoever trains models."""
        try:
            data = str(window_file(self._where, 1))
        except ImpossibleError as problem:
            data = str(problem)
        file = self._where.folder / "retrain.json"
        Request(when=ledger.now(), why=why, data=data).write(file)
        return f"asked for in {file}"

    def busy(self) -> str:
        """Whether the optimization runs."""
        try:
            started = Started.read(self._where.folder / "reoptimize.json")
            found = psutil.Process(started.pid)
            same = abs(found.create_time() - started.created) < 0.01 and found.status() != psutil.STATUS_ZOMBIE
        except (DataError, psutil.Error):
            return ""
        return "the optimization runs" if same else ""


def window_file(where: Place, least: int, most: int = 4000) -> Path:
    """What callers asked since prompts became others, and the answers, as data for `optimize`; each prompt once.

    Of too few, those before as well. Raises ImpossibleError where the log keeps no texts, or too few altogether.
    """
    kept: dict[str, tuple[float, dict[str, str]]] = {}
    for name in watch.SLOTS:
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
    seen = where.folder / "state.json"
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


# -- the command -------------------------------------------------------------------------------------------------------


def told(window: Window, watching: Watch) -> str:
    """One window in a line."""
    values = ", ".join(
        f"{name} {one.value:.4g}" for name in SHOWN if (one := window.figures.get(name)) and one.value is not None
    )
    firing = [alert.name for alert in watching.state.alerts if alert.fired]
    problems = "; ".join(f"{count} x {name}" for name, count in window.problems.items())
    return (
        f"window {window.number}: {window.rows} requests, {values or 'no figures'}; "
        f"drift: {window.drift} ({window.why}); alerts: {', '.join(firing) or 'none'}"
        + (f"; skipped: {problems}" if problems else "")
    )


def shown(watching: Watch) -> list[str]:
    """What was seen last."""
    state = watching.state
    lines = [told(window, watching) for window in state.windows[-5:]] or ["no window was taken yet"]
    lines += [f"{one.name} [{one.severity}] {'fires' if one.fired else 'pending'}: {one.said}" for one in state.alerts]
    lines += [f"{one.when} {one.alert}: {one.step} {one.outcome}: {one.said}" for one in state.shown[-12:]]
    if state.repair:
        lines.append(f"under way against {state.repair.alert}: {state.repair.steps[0]}, {state.repair.done}")
    return lines


def run(where: Place, params: Params, every: float | None, packages: Sequence[Path]) -> int:
    """Take windows until stopped, each by the flow `monitor`."""
    with server.reached("the monitor", "what it has seen is kept, the next `make monitor` goes on"):
        from flows.monitoring import monitor

        while True:
            began = time.monotonic()
            progress.tell(monitor(str(where.store.folder), str(where.folder), where.url, [str(p) for p in packages]))
            if every is None:
                return EXIT_OK
            while time.monotonic() - began < every:
                time.sleep(WITHIN_S)


def parser() -> argparse.ArgumentParser:
    """Command line of `make monitor`."""
    made = argparse.ArgumentParser(
        prog="python -m flows.monitor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--folder", type=Path, default=rollouts.FOLDER, help=f"the server's ({rollouts.FOLDER})")
    made.add_argument("--kept", type=Path, default=FOLDER, help=f"the monitor's own ({FOLDER})")
    made.add_argument("--url", help="the server's address, for /metrics (serve.host and serve.port)")
    made.add_argument("--every", type=float, metavar="SECONDS", help="a window so often, until stopped")
    made.add_argument(
        "--package", type=Path, action="append", default=[], help="versions to choose from (the registry's)"
    )
    made.add_argument("--show", action="store_true", help="what was seen last")
    made.add_argument("--json", action="store_true", help="the same as JSON")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    arguments = parser().parse_args(argv)

    def work() -> int:
        params = config.load()
        if arguments.every is not None and arguments.every <= 0:
            raise ConfigError(f"--every {arguments.every:g} must be above 0 seconds")
        url = arguments.url or f"http://{params.serve.host}:{params.serve.port}"
        where = place(arguments.folder, url, arguments.kept)
        if arguments.show or arguments.json:
            watching = Watch(where, params.monitor)
            print(watching.state.model_dump_json(indent=2) if arguments.json else "\n".join(shown(watching)))
            return EXIT_OK
        with watch.held(where.folder):
            return run(where, params, arguments.every, arguments.package)

    try:
        return run_stage(work)
    except KeyboardInterrupt:
        return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
