"""Place: where each runtime really puts a model here, beside where it was asked to, and why the two differ (S10, S24).

What is not there falls back to the processor, with its kind: library, device, compile, operator or shape. --on-fallback
says what that means: allow it, warn of it, or refuse it (exit code 1).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tasks.backends.base import Family
from tasks.backends.table import module_of
from tasks.errors import EXIT_FAIL, EXIT_OK, ChildError, ConfigError, UnsupportedError
from tasks.hardware import cores
from tasks.params.load import known_variant
from tasks.params.pipeline import Params
from tasks.params.whole import load_whole
from tasks.records.artifact import Artifact
from tasks.records.base import Record
from tasks.records.model import ModelProfile
from tasks.records.placement import Placement
from tasks.run.child import Child, run_child
from tasks.run.stage import argument, main_of
from tasks.run.workspace import Workspace


class PlaceRequest(Record):
    """Place one artifact."""

    backend: str
    family: Family
    artifact: Path
    device: str
    threads: int


def place(request: PlaceRequest) -> Placement:
    """In a child process: providers that are registered once stay registered."""
    try:
        module = importlib.import_module(f"{module_of(request.backend)}.placing")
    except ModuleNotFoundError:
        raise UnsupportedError(f"{request.backend} runs on the processor alone here and places nothing") from None
    found: Placement = module.placed(request.artifact, request.device, request.threads)
    return found


def placements(
    workspace: Workspace, params: Params, variants: Sequence[str], device: str
) -> dict[str, Placement | str]:
    """Each variant's placement, or why there is none; written into the workspace as they are found."""
    family = ModelProfile.read(workspace.profile).family
    found: dict[str, Placement | str] = {}
    for name in variants:
        artifact = Artifact.read(workspace.artifact_record(name)) if workspace.artifact_record(name).exists() else None
        if artifact is None or artifact.status != "ok":
            found[name] = "not made" if artifact is None else f"{artifact.status}: {artifact.reason}"
            continue
        request = PlaceRequest(
            backend=artifact.recipe.backend, family=family, artifact=workspace.artifact_files(name).resolve(),
            device=device, threads=cores.usable_cores(),
        )  # fmt: skip
        log = workspace.logs / f"place-{name}.log"
        try:
            one = run_child(Child("tasks.place:place", request, params.convert.limits, log, f"place {name}"), Placement)
        except ChildError as error:
            found[name] = str(error)
            continue
        one.write(workspace.placement(name))
        found[name] = one
    return found


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


def work(variant: list[str], device: str | None, on_fallback: str | None, min_share: float | None) -> int:
    """Place variants, all that were made by default."""
    params, workspace = load_whole(), Workspace()
    told = params.accelerate
    device, rule = device or told.device, on_fallback or told.on_fallback
    least = told.min_flops_share if min_share is None else min_share
    if least is not None and not 0 <= least <= 1:
        raise ConfigError(f"--min-share is a share from 0 to 1, not {least:g}")
    for name in variant:
        known_variant(params, name)
    names = variant or [name for name, one in params.variants.items() if one.backend in PLACING]
    found = placements(workspace, params, names, device)
    console = Console() if Console().is_terminal else Console(width=160)
    console.print(table_of(found))
    placed = {name: one for name, one in found.items() if isinstance(one, Placement)}
    fell = sorted(name for name, one in placed.items() if one.fallbacks)
    if fell and rule == "warn":
        console.print(f"warning: {', '.join(fell)} fell back from {device}; the reasons stand above", highlight=False)
    short = sorted(name for name, one in placed.items() if least is not None and too_little(one, least))
    if short:
        console.print(f"{', '.join(short)}: less than {least:.0%} of the FLOPs run on {device}", highlight=False)
    if fell and rule == "refuse":
        console.print(f"refused: {', '.join(fell)} fell back from {device}", highlight=False)
    return EXIT_FAIL if short or (fell and rule == "refuse") or not placed else EXIT_OK


def too_little(found: Placement, least: float) -> bool:
    """Whether the device that was asked for does less than a share of the FLOPs; what is not told is too little."""
    share = found.share_as_asked
    return share is None or share < least


PLACING = ("onnx", "openvino", "gguf")
DEVICE = argument("--device", help="auto | cpu | gpu | npu | as a runtime names it; default: accelerate.device")
RULE = argument("--on-fallback", choices=("allow", "warn", "refuse"), help="default: accelerate.on_fallback")
SHARE = argument("--min-share", type=float, help="least share of FLOPs on the device; default: accelerate's")
VARIANT = argument(
    "--variant", action="append", default=[], help="a name under `variants`; default: all that were made"
)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    return main_of("tasks.place", __doc__, work, argv, VARIANT, DEVICE, RULE, SHARE)


if __name__ == "__main__":
    raise SystemExit(main())
