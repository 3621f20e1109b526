"""Place: where each runtime really puts a model here, beside where it was asked to, and why the two differ (S10, S24).

What is not there falls back to the processor, with its kind: library, device, compile, operator or shape. --on-fallback
says what that means: allow it, warn of it, or refuse it (exit code 1).
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tasks.backends.base import Family
from tasks.backends.devices import DEVICE
from tasks.backends.placing import AUTO, CPU, first_line
from tasks.backends.table import module_of
from tasks.errors import EXIT_FAIL, EXIT_OK, ChildError, ConfigError, UnsupportedError
from tasks.hardware import cores
from tasks.params.load import known_variant, load_params
from tasks.params.pipeline import Params
from tasks.records.artifact import Artifact
from tasks.records.base import Record
from tasks.records.model import ModelProfile
from tasks.records.placement import Placement
from tasks.run.child import Child, run_child
from tasks.run.disk import fresh_folder, replace_folder
from tasks.run.stage import argument, main_of
from tasks.run.workspace import Workspace


class PlaceRequest(Record):
    """Place artifacts of one backend."""

    backend: str
    family: Family
    artifacts: dict[str, Path]
    device: str
    threads: int


class Placed(Record):
    """Where each is, or why it cannot be told."""

    found: dict[str, Placement] = {}
    failed: dict[str, str] = {}


def place(request: PlaceRequest) -> Placed:
    """In a child process: providers that are registered once stay registered."""
    if not _tells(request.backend):
        raise UnsupportedError(f"{request.backend} does not tell where it puts a model")
    module = importlib.import_module(f"{module_of(request.backend)}.placing")
    found, failed = dict[str, Placement](), dict[str, str]()
    for name, artifact in request.artifacts.items():
        try:
            found[name] = module.placed(artifact, request.device, request.threads)
        except Exception as error:  # noqa: BLE001 - a runtime may raise anything; one that it cannot open costs no other
            failed[name] = first_line(error)
    return Placed(found=found, failed=failed)


def placements(
    workspace: Workspace, params: Params, variants: Sequence[str], device: str | None
) -> dict[str, Placement | str]:
    """Each variant's placement, or why there is none; `device` None: the one that its settings and `accelerate` name.

    Where `accelerate.device` is `auto`, tuning chose the device: a variant is asked for where it is run.
    """
    family = ModelProfile.read(workspace.profile).family
    found: dict[str, Placement | str] = {}
    together: dict[tuple[str, str], dict[str, Path]] = {}
    for name in variants:
        artifact = Artifact.read(workspace.artifact_record(name)) if workspace.artifact_record(name).exists() else None
        if artifact is None or artifact.status != "ok":
            found[name] = "not made" if artifact is None else f"{artifact.status}: {artifact.reason}"
            continue
        asked = device or asked_for(params, settings_of(workspace, artifact.recipe.backend))
        files = workspace.artifact_files(name).resolve()
        together.setdefault((artifact.recipe.backend, asked), {})[name] = files
    for (backend, asked), artifacts in together.items():
        request = PlaceRequest(
            backend=backend, family=family, artifacts=artifacts, device=asked,
            threads=cores.threads(params.benchmark.threads),
        )  # fmt: skip
        log = workspace.logs / f"place-{backend}.log"
        child = Child("tasks.place:place", request, params.convert.limits, log, f"place {backend}")
        try:
            placed = run_child(child, Placed)
        except ChildError as error:
            found |= dict.fromkeys(artifacts, str(error))
            continue
        found |= {**placed.found, **placed.failed}
    return {name: found[name] for name in variants}


def settings_of(workspace: Workspace, backend: str) -> dict[str, str]:
    """Tuned settings of a backend; none where it was not tuned."""
    file = workspace.settings(backend)
    return dict(json.loads(file.read_text())) if file.exists() else {}


def asked_for(params: Params, settings: dict[str, str]) -> str:
    """The device to ask for.

    >>> from types import SimpleNamespace as Some
    >>> auto = Some(accelerate=Some(device="auto"))
    >>> asked_for(auto, {}), asked_for(auto, {"device": "GPU"}), asked_for(Some(accelerate=Some(device="npu")), {})
    ('cpu', 'GPU', 'npu')
    """
    told = params.accelerate.device
    return settings.get(DEVICE, CPU) if told == AUTO else told


def record(workspace: Workspace, params: Params) -> None:
    """The stage: a record per variant that was made and can be placed, in a fresh folder."""
    partial = fresh_folder(workspace.placements)
    for name, one in placements(workspace, params, placeable(params), None).items():
        if isinstance(one, Placement):
            one.write(partial / workspace.placement(name).name)
        print(f"{name}: {one if isinstance(one, str) else one.resolved}")
    replace_folder(partial, workspace.placements)


def placeable(params: Params) -> list[str]:
    """Variants of runtimes that tell where they put a model."""
    return [name for name, one in params.variants.items() if _tells(one.backend)]


def _tells(backend: str) -> bool:
    try:
        return importlib.util.find_spec(f"{module_of(backend)}.placing") is not None
    except ModuleNotFoundError:  # the backend is one file
        return False


def table_of(found: dict[str, Placement | str]) -> Table:
    """A line a variant: where it is, how much of it, in which precision, and what fell back."""
    table = Table(title="placement", title_justify="left")
    for name in ("variant", "asked", "runs on", "FLOPs as asked", "computes in", "transfers", "fell back"):
        table.add_column(name)
    for variant, one in found.items():
        if isinstance(one, str):
            table.add_row(variant, "", "", "", "", "", one)
            continue
        share = "not told" if one.share_as_asked is None else f"{one.share_as_asked:.0%}"
        went = "\n".join(f"{each.kind}: {each.reason}" for each in one.fallbacks) or "-"
        moved = "not told" if one.transfers is None else str(one.transfers)
        table.add_row(variant, one.requested, one.resolved, share, one.precision or "not told", moved, went)
    return table


def work(
    variant: list[str], device: str | None, on_fallback: str | None, min_share: float | None, as_stage: bool
) -> int:
    """Place variants, all that were made by default."""
    params, workspace = load_params(), Workspace()
    if as_stage:
        record(workspace, params)
        return EXIT_OK
    rule, bound = on_fallback or params.accelerate.on_fallback, params.for_target().gate.get("placed_share")
    least = min_share if min_share is not None else bound.min if bound else None
    if least is not None and not 0 <= least <= 1:
        raise ConfigError(f"--min-share is a share from 0 to 1, not {least:g}")
    for name in variant:
        known_variant(params, name)
    names = variant or placeable(params)
    found = placements(workspace, params, names, device)
    console = Console() if Console().is_terminal else Console(width=160)
    console.print(table_of(found))
    placed = {name: one for name, one in found.items() if isinstance(one, Placement)}
    fell = sorted(name for name, one in placed.items() if one.fallbacks)
    if fell and rule == "warn":
        console.print(f"warning: {', '.join(fell)} fell back; the reasons stand above", highlight=False)
    short = sorted(name for name, one in placed.items() if least is not None and too_little(one, least))
    if short:
        console.print(
            f"{', '.join(short)}: less than {least:.0%} of the FLOPs run on {device or 'the device asked for'}",
            highlight=False,
        )
    if fell and rule == "refuse":
        console.print(f"refused: {', '.join(fell)} fell back", highlight=False)
    return EXIT_FAIL if short or (fell and rule == "refuse") or not placed else EXIT_OK


def too_little(found: Placement, least: float) -> bool:
    """Whether the device that was asked for does less than a share of the FLOPs; what is not told is too little."""
    share = found.share_as_asked
    return share is None or share < least


DEVICE_ASKED = argument("--device", help="auto | cpu | gpu | npu | as a runtime names it; default: accelerate.device")
RULE = argument("--on-fallback", choices=("allow", "warn", "refuse"), help="default: accelerate.on_fallback")
SHARE = argument("--min-share", type=float, help="least share of FLOPs on the device; default: gate.placed_share")
RECORD = argument(
    "--record", dest="as_stage", action="store_true", help="as the pipeline does: all of them, into records"
)
VARIANT = argument(
    "--variant", action="append", default=[], help="a name under `variants`; default: all that were made"
)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    return main_of("tasks.place", __doc__, work, argv, VARIANT, DEVICE_ASKED, RULE, SHARE, RECORD)


if __name__ == "__main__":
    raise SystemExit(main())
