"""Watch the server: a window of its traffic as figures, drift, alerts, and repairs that are really made.

Without --every one window is taken, from where the last one ended. `--show` says what was seen last and does nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows import progress, server
from flows.reoptimize import Loop
from monitoring import shadow, watch
from monitoring.diagnose import Setting
from monitoring.hand import Choice, Defaults, Hand, ImpossibleError, Long, RouterHand, in_background
from monitoring.notices import sender
from monitoring.shadow import Asked, Read
from monitoring.watch import BOOK, FOLDER, Place, Watch, World
from monitoring.windows import Window
from tasks import config, paths
from tasks.config import Params
from tasks.errors import EXIT_OK, ConfigError, DataError
from tasks.packaging.manifest import CONTENTS, Contents
from tasks.promotion import store as rollouts
from tasks.promotion.__main__ import packaged
from tasks.promotion.rollout import Slot
from tasks.promotion.store import Store
from tasks.records import Ceiling
from tasks.stage import run_stage

if TYPE_CHECKING:
    import pandas as pd

WITHIN_S = 0.5  # of its time, the loop wakes up
SHOWN = ("requests_per_s", "error_rate", "first_token_p95_ms", "inter_token_p50_ms", "memory_mb", "confidence_p50")


def place(folder: Path = rollouts.FOLDER, url: str = "", kept: Path = FOLDER, book: Path = BOOK) -> Place:
    """Where the server of `folder` and its monitor keep what they know."""
    return Place(Store(folder), kept, book, rollouts.TRANSITIONS, url)


def world(where: Place, params: Params, packages: Sequence[Path] = (), long: Long | None = None) -> World:
    """What is served, which versions there are, and who may change it."""
    state = where.store.state()
    slot = state.slot(state.champion)
    defaults = Defaults(cores=config.cores(), slots=params.serve.slots, context=params.serve.context_tokens)
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


def _setting(slot: Slot, params: Params, defaults: Defaults) -> Setting:
    folder = Path(slot.package) if slot.package else paths.PACKAGE
    try:
        contents = Contents.read(folder / CONTENTS)
    except DataError:
        return Setting(backend="torch", version=slot.version, slots=defaults.slots)
    return Setting(
        backend=contents.backend,
        version=slot.version or contents.results_digest[:12],
        slots=slot.running.slots or defaults.slots,
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
