"""Describe the model, rank the frameworks for the target, and plan every variant (S3, S4, S9)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tasks.hardware.profiles import named
from tasks.kinds.table import describing
from tasks.params.load import load_params
from tasks.params.pipeline import Params, Target
from tasks.planning.compatibility import compatibility
from tasks.planning.fit import Place, fit
from tasks.planning.plan import backends_of, plan
from tasks.planning.selection import ranked_backends, select
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import PlanEntry, Recipe, Selection
from tasks.records.targets import Fit, Fits
from tasks.run.stage import main_of
from tasks.run.workspace import Workspace
from tasks.sources.files import Source
from tasks.targets import table


def assess(params: Params, hardware: Hardware, folder: Path) -> tuple[ModelProfile, Selection, list[PlanEntry]]:
    """Profile the model in `folder`, rank the frameworks and plan the variants; raises ModelError or ConfigError.

    `hardware` is that of the first target, and so is the ranking.
    """
    model = describing(Source.read(folder / Workspace().source.name).kind).describe(folder)
    known = compatibility(model.architecture, model.model_type, model.modality)
    model = model.model_copy(update={"compatibility": known})
    selection = select(hardware, model, params.assess, ranked_backends(backends_of(params)))
    return model, selection, plan(params, hardware, model, selection, fits(params, hardware, model))


def fits(params: Params, hardware: Hardware, model: ModelProfile) -> tuple[Fit, ...]:
    """What each target of the block `targets` takes; none for the short form, which takes what its device runs.

    Raises ConfigError for a device or kind of target that is not known.
    """
    return tuple(fit(params, place(name, target, hardware), model) for name, target in params.targets.items())


def place(name: str, target: Target, first: Hardware) -> Place:
    """One target as planning asks it; `first` is the hardware of the first target."""
    same, key = target.device == first.device, f"targets.{name}.device"
    accepts = table.target(target.kind, name, target.device).accepts
    return Place(name, target.kind, first if same else named(target.device, key), accepts)


def write_plan(entries: Iterable[PlanEntry], folder: Path) -> None:
    """Write one file per variant and remove those of variants that are no longer there."""
    wanted = {f"{entry.variant}.json": entry for entry in entries}
    for file in folder.glob("*.json"):
        if file.name not in wanted:
            file.unlink()
    for name, entry in wanted.items():
        entry.write(folder / name)


def work() -> None:
    """Write profile, selection, plan and fits of the workspace's model, and print them."""
    workspace, params = Workspace(), load_params()
    hardware = Hardware.read(workspace.hardware)
    model, selection, entries = assess(params, hardware, workspace.model)
    found = fits(params, hardware, model)
    model.write(workspace.profile)
    selection.write(workspace.selection)
    write_plan(entries, workspace.plans)
    workspace.fits.unlink(missing_ok=True)
    if found:
        Fits(targets=found).write(workspace.fits)
    console = Console()
    console = console if console.is_terminal else Console(width=140)
    show(model, selection, entries, console)
    for one in found:
        taken = [name for name, takes in one.takes.items() if takes.ok]
        console.print(f"target {one.target} ({one.device}) takes {', '.join(taken)}", highlight=False)


def show(model: ModelProfile, selection: Selection, entries: list[PlanEntry], console: Console) -> None:
    """Print the model, the way through the decision tree, the ranking and the plan."""
    size = f"{model.parameters / 1e6:.1f} M parameters, {model.size_mb:.0f} MB in {model.dtype}"
    needs = ", ".join(f"{precision} {mb:.0f}" for precision, mb in model.memory_mb.items())
    console.print(f"{model.name}: {model.architecture} ({model.modality}), {size}", highlight=False)
    console.print(f"estimated memory in MB at {model.context_length} tokens of context: {needs}", highlight=False)
    for step in selection.path:
        console.print(f"  {step}", highlight=False)
    ranking = Table(
        "rank", "framework", "score", "why", title=f"frameworks for {selection.device}", title_justify="left"
    )
    for choice in selection.ranking:
        able = () if choice.support.ok else (f"cannot: {choice.support.reason}",)
        ranking.add_row(str(choice.rank), choice.framework, f"{choice.score:.2f}", "; ".join((*able, *choice.reasons)))
    console.print(ranking)
    if not entries:
        return
    planned = Table("variant", "action", "reason", "recipe", "timed here", title="plan", title_justify="left")
    for entry in entries:
        speed = "yes" if entry.speed_on_device.ok else "not this device"
        planned.add_row(entry.variant, entry.action, entry.reason, how(entry.recipe), speed)
    console.print(planned)


def how(recipe: Recipe) -> str:
    """A recipe in a few words; its reasons stand in the plan's file."""
    group = f", groups of {recipe.group_size}" if recipe.group_size else ""
    share = f", {recipe.ratio:.0%} of layers" if recipe.ratio < 1 else ""
    fewer = f", {recipe.channels:.0%} of channels" if recipe.channels < 1 else ""
    trained = f", {recipe.epochs} epochs" if recipe.epochs else ""
    return f"{recipe.precision} {recipe.method}{group}{share}{fewer}{trained}"


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    return main_of("tasks.assess", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
