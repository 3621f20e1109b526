"""Make a version champion: with traffic, step by step, where a router serves; else by the registry's alias alone.

The router decides and acts; the flow `promote` orders, waits and reports. It can be killed and started again at any
moment: the router goes on without it, and a new one takes up the rollout of the same version that is under way.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flows import prefect_server
from flows.progress import tell
from tasks.errors import EXIT_FAIL, EXIT_OK, EdgewrightError, ResourceError
from tasks.params.whole import load_whole
from tasks.promotion.rollout import Slot, State
from tasks.promotion.store import FOLDER, Store, transitions
from tasks.records.verdict import GateReport
from tasks.registry import ledger
from tasks.registry import versions as registry
from tasks.registry.ledger import Entry
from tasks.registry.versions import WeakerError
from tasks.run.stage import argument, main_of
from tasks.run.workspace import Workspace

ROUTER_GONE_S = 120.0  # without a router, before the flow gives up; what was begun goes on when one runs
LOOK_S = 0.2
ORDER_S = 60.0


class RolledBackError(EdgewrightError):
    """The version did not become champion."""

    exit_code = EXIT_FAIL


# -- at the end of a run: by the registry alone ------------------------------------------------------------------------


def promote_winner() -> str:
    """Make the winner of the last results champion unless that was done, or undone by hand; returns what happened.

    Raises RegistryError when MLflow does not answer, DataError when nothing was tracked.
    """
    from tasks.registry.receipts import Tracked

    tracked = Tracked.read(Workspace().tracked)
    if tracked.version is None:
        return f"not promoted: {tracked.reason}"
    kept = settled(ledger.read(ledger.LEDGER, tracked.model_name).entries, tracked.version)
    if kept:
        return f"{tracked.model_name}: {kept}"
    verdicts = GateReport.read(Workspace().verdicts)
    try:
        change = registry.promote(tracked.model_name, tracked.version, verdicts, registry.actor(), verdicts.reason)
    except WeakerError as error:  # the run itself passed; its exit code is its own verdict's
        return str(error)
    return f"{tracked.model_name}: {change.reason}"


def settled(entries: Iterable[Entry], version: str) -> str:
    """Why there is nothing to promote, or nothing when there is.

    A rollback is a person's decision: running the same results again does not undo it.
    """
    last = next(iter(reversed(list(entries))), None)
    if last is None:
        return ""
    if last.to_version == version:
        return f"version {version} is champion since {last.when}"
    if last.action == "rollback" and last.from_version == version:
        return f"version {version} was rolled back on {last.when}; `make promote` makes it champion again"
    return ""


# -- with traffic: the flow --------------------------------------------------------------------------------------------


def run_promotion(store: Store, slot: Slot, why: str) -> str:
    """Run the flow; returns how it ended. Raises RolledBackError when the version did not become champion."""
    otherwise = "the router goes on by itself, `python -m tasks.promotion status` says how far it is"
    with prefect_server.reached("the promotion", otherwise):
        ended: str = promotion_flow()(str(store.folder), slot, why)
        return ended


@functools.cache
def promotion_flow() -> Any:
    """The flow `promote`, which leads a version to champion and returns how it ended.

    It is built when it is wanted: Prefect reads its settings when it is imported, and a run needs this file without it.
    """
    from prefect import flow, task

    ordered = task(name="order", retries=0)(order)
    watched = task(name="watch", task_run_name="{stage}")(watch)

    @flow(name="promote", validate_parameters=False, log_prints=True)
    def promote(folder: str, slot: Slot, why: str) -> str:
        store = Store(Path(folder))
        print(ordered(folder, slot, why))
        while not over(store.state(), slot.version):
            stage = label(store.state())
            tell(f"promote version {slot.version}: {stage} ...")
            tell(f"promote version {slot.version}: {stage}: {watched(folder, slot.version, stage)}")
        _publish(slot.version)
        state = store.state()
        if state.slot(state.champion).version != slot.version:
            raise RolledBackError(f"version {slot.version} was rolled back: {state.reason}")
        return f"version {slot.version} is champion"

    return promote


def order(folder: str, slot: Slot, why: str) -> str:
    """Tell the router, unless it is at it; returns its answer."""
    store = Store(Path(folder))
    return begun(store.state(), slot.version) or store.give("deploy", registry.actor(), why, slot, patience_s=ORDER_S)


def begun(state: State, version: str) -> str:
    """Why a router needs no order to promote a version; empty when it does."""
    if state.phase != "idle" and state.slot(state.challenger).version == version and state.goal == "promote":
        return f"version {version} is under way: {state.phase}"
    if state.phase == "idle" and state.slot(state.champion).version == version:
        return f"version {version} is champion already"
    return ""


def watch(folder: str, version: str, stage: str) -> str:
    """Wait until the rollout of a version has left a stage; returns what led on. Raises RolledBackError."""
    store, alone_since = Store(Path(folder)), None
    while True:
        state = store.state()
        if over(state, version):
            if state.slot(state.champion).version == version:
                return state.reason
            raise RolledBackError(f"version {version} was rolled back: {state.reason}")
        if label(state) != stage:
            return state.reason
        if store.runs():
            alone_since = None
        else:
            alone_since = alone_since or time.monotonic()
            if time.monotonic() - alone_since > ROUTER_GONE_S:
                raise ResourceError(f"no router is at work on {store.folder}; `make route` goes on with {state.phase}")
        time.sleep(LOOK_S)


def over(state: State, version: str) -> bool:
    """Whether a version's rollout has come to its end, one way or the other."""
    return state.phase == "idle" or state.slot(state.challenger).version not in ("", version)


def label(state: State) -> str:
    """A stage as it is called in Prefect."""
    return f"ramp {state.share:g}%" if state.phase == "ramp" else state.phase


def _publish(version: str) -> None:
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(key="promotion", markdown=evidence(version), description="each step's evidence")


def evidence(version: str) -> str:
    """The transitions of a version as a table."""
    found = [one for one in transitions() if version in (one.challenger, one.champion)][-20:]
    rows = [(one.when, one.before, one.after, f"{one.share:g}%", one.why.replace("|", "/")[:300]) for one in found]
    head = "| when | from | to | share | why |\n|---|---|---|---|---|\n"
    return head + "\n".join(f"| {' | '.join(row)} |" for row in rows)


# -- the command -------------------------------------------------------------------------------------------------------


def command(folder: Path, version: str | None, package: Path | None, why: str, anyway: bool) -> int:
    """Promote a version: with traffic where a router is at work on `folder`, else by its alias."""
    store, name = Store(folder), load_whole().registered_name
    if not store.runs():
        if package:
            raise ResourceError(f"no router is at work on {folder}; start one with `make route`")
        verdicts = GateReport.read(Workspace().verdicts)
        change = registry.promote(name, version, verdicts, registry.actor(), why, anyway)
        print(f"{name}: {change.reason} (no router is at work, so no traffic was led)")
        return EXIT_OK
    from tasks.promotion.packages import packaged

    slot = packaged(package) if package else Slot(version=version or _candidate(name))
    if not package and not anyway and not begun(store.state(), slot.version):
        registry.require_not_weaker(name, slot.version)
    print(run_promotion(store, slot, why))
    return EXIT_OK


def _candidate(name: str) -> str:
    return registry.located(name, registry.CANDIDATE).version


def main(argv: list[str] | None = None) -> int:
    """Run the command; exit 0 champion, 1 rolled back or refused by its verdict, 2 bad input, 3 inconclusive."""
    which = (
        argument("--version", help="a version's number in the registry; left out, the candidate"),
        argument("--package", type=Path, help="a package folder, where the router serves one"),
    )
    return main_of(
        "flows.promote", __doc__, command, argv,
        argument("--folder", type=Path, default=FOLDER, help=f"the router's folder ({FOLDER})"), which,
        argument("--why", default="passed every gate", help="the reason, for the ledger"),
        argument("--anyway", action="store_true", help="also when the champion passed stricter gates"),
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
