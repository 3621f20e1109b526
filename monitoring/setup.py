"""Who is watched: the server of a folder, what it serves, which versions there are, and who may change it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring.collect.place import BOOK, FOLDER, Place
from monitoring.collect.windows import Window
from monitoring.judge import reference_check
from monitoring.judge.reference_check import AnswerScore, LoggedAnswer
from monitoring.notices import sender
from monitoring.repair.actuator import (
    Actuator,
    Choice,
    Defaults,
    ImpossibleError,
    Reoptimizer,
    RouterActuator,
    in_background,
)
from monitoring.repair.diagnose import Setting
from monitoring.repair.reoptimize import PipelineReoptimizer
from monitoring.watch import World
from tasks.backends.devices import device_of
from tasks.errors import DataError
from tasks.hardware import cores
from tasks.kinds.causal_lm import files
from tasks.packaging.manifest import CONTENTS, Contents
from tasks.params.whole import Whole
from tasks.planning.devices import devices
from tasks.promotion import store as rollouts
from tasks.promotion.packages import packaged
from tasks.promotion.rollout import Slot
from tasks.promotion.store import Store
from tasks.records.hardware import Hardware
from tasks.records.speed import Ceiling
from tasks.run.disk import size_bytes
from tasks.run.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


def place(folder: Path = rollouts.FOLDER, url: str = "", kept: Path = FOLDER, book: Path = BOOK) -> Place:
    """Where the server of `folder` and its monitor keep what they know."""
    return Place(Store(folder), kept, book, rollouts.TRANSITIONS, url)


def world(where: Place, params: Whole, packages: Sequence[Path] = (), reoptimizer: Reoptimizer | None = None) -> World:
    """What is served, which versions there are, and who may change it; without a router nobody may."""
    state = where.store.state()
    slot = state.slot(state.champion)
    defaults = Defaults(
        cores=cores.cores(), slots=params.serve.slots, context=params.serve.context_tokens,
        **_devices(slot, params),
    )  # fmt: skip
    actuator: Actuator | None = None
    if where.store.runs():
        actuator = RouterActuator(
            where.store,
            defaults,
            lambda: choices(params.registered_name, packages),
            reoptimizer or PipelineReoptimizer(where, params),
        )
    return World(
        setting=_setting(slot, params, defaults),
        versions=_versions(where, slot),
        actuator=actuator,
        send=sender(params.monitor.notify),
        read=_reference(where, slot),
        link=lambda window: _link(where, params.registered_name, window),
        evaluated=_evaluated(),
    )


def _reference(where: Place, slot: Slot) -> Callable[[Sequence[LoggedAnswer]], Sequence[AnswerScore]] | None:
    """The fp32 reference, where this checkout has it; the tokenizer is that of what is served."""
    tokenizer = (Path(slot.package) if slot.package else Workspace().package) / "tokenizer"
    if not Workspace().source.exists() or not tokenizer.is_dir():
        return None
    return lambda asked: reference_check.read(Workspace().model, tokenizer, asked, where.folder / "shadow.log")


def _link(where: Place, model: str, window: Window) -> None:
    """Tag the version in the registry with the verdict; it is asked in the background, as that takes seconds."""
    if window.version.isdigit():
        said = f"{window.drift} in window {window.number}: {window.why}"[:500]
        in_background(
            ["tasks.promotion.registrar", model, "tag", window.version, "drift", said], where.folder / "link.log"
        )


def _setting(slot: Slot, params: Whole, defaults: Defaults) -> Setting:
    folder = Path(slot.package) if slot.package else Workspace().package
    try:
        contents = Contents.read(folder / CONTENTS)
    except DataError:
        return Setting(backend="torch", version=slot.version, slots=defaults.slots)
    return Setting(
        backend=contents.backend,
        version=slot.version or contents.results_digest[:12],
        slots=slot.options.slots or defaults.slots,
        artifact_mb=size_bytes(folder / "model") / 1e6,
        bandwidth_gb_s=_bandwidth(),
        accelerators=defaults.accelerators,
    )


def _devices(slot: Slot, params: Whole) -> dict[str, Any]:
    """The device of the served package, and those that its runtime could use too; none where no run looked for them."""
    folder = Path(slot.package) if slot.package else Workspace().package
    try:
        contents, hardware = Contents.read(folder / CONTENTS), Hardware.read(Workspace().hardware)
    except DataError:
        return {}
    found = devices(hardware, contents.backend, contents.family, params.accelerate.device)
    return {"device": device_of(contents.settings), "accelerators": found}


def _bandwidth() -> float | None:
    """What `make run` measured on this machine; None where it did not."""
    try:
        return Ceiling.read(Workspace().ceiling).memory_gb_s.p50
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

    from monitoring.collect.rows import SKETCH
    from tasks.kinds.causal_lm.rows import EvaluationSet
    from tasks.serve.log.sketch import rarity, sketch

    try:
        rows = EvaluationSet.read(Workspace().data / files.EVALUATION).rows
    except DataError:
        return None
    made = pd.DataFrame({"rarity": [rarity(row.ids) for row in rows]})
    return made.join(pd.DataFrame([sketch(row.ids) for row in rows], columns=list(SKETCH)))


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
               size_mb=size_bytes(Path(one.package) / "model") / 1e6)
        for one in slots
    ]  # fmt: skip
