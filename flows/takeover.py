"""The flow `promote`: drive a version through staging, shadow and ramp to champion, and show each step in Prefect.

The router decides and acts; the flow orders, waits and reports. It can be killed and started again at any moment: it
takes up the rollout of the same version that is under way.
"""

from __future__ import annotations

import time
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from flows.progress import tell
from tasks import registry
from tasks.errors import EXIT_FAIL, EdgewrightError, ResourceError
from tasks.promotion.rollout import Slot, State
from tasks.promotion.store import Store, transitions

ROUTER_GONE_S = 120.0  # without a router, before the flow gives up; what was begun goes on when one runs
LOOK_S = 0.2
ORDER_S = 60.0


class RolledBackError(EdgewrightError):
    """The version did not become champion."""

    exit_code = EXIT_FAIL


@task(name="order", retries=0)
def order(folder: str, slot: Slot, why: str) -> str:
    """Tell the router, unless it is at it."""
    store = Store(Path(folder))
    state = store.state()
    if state.phase != "idle" and state.slot(state.challenger).version == slot.version and state.goal == "promote":
        return f"version {slot.version} is under way: {state.phase}"
    if state.phase == "idle" and state.slot(state.champion).version == slot.version:
        return f"version {slot.version} is champion already"
    return store.give("deploy", registry.actor(), why, slot, patience_s=ORDER_S)


@task(name="watch", task_run_name="{stage}")
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


@flow(name="promote", validate_parameters=False, log_prints=True)
def promote(folder: str, slot: Slot, why: str) -> str:
    """Lead a version to champion; returns how it ended."""
    store = Store(Path(folder))
    print(order(folder, slot, why))
    while not over(store.state(), slot.version):
        stage = label(store.state())
        tell(f"promote version {slot.version}: {stage} ...")
        tell(f"promote version {slot.version}: {stage}: {watch(folder, slot.version, stage)}")
    state = store.state()
    create_markdown_artifact(key="promotion", markdown=summary(slot.version), description="each step's evidence")
    if state.slot(state.champion).version != slot.version:
        raise RolledBackError(f"version {slot.version} was rolled back: {state.reason}")
    return f"version {slot.version} is champion"


def summary(version: str) -> str:
    """The transitions of a version as a table."""
    found = [one for one in transitions() if version in (one.challenger, one.champion)][-20:]
    rows = [(one.when, one.before, one.after, f"{one.share:g}%", one.why.replace("|", "/")[:300]) for one in found]
    head = "| when | from | to | share | why |\n|---|---|---|---|---|\n"
    return head + "\n".join(f"| {' | '.join(row)} |" for row in rows)
