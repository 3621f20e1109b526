"""Describe the model, rank the frameworks for the target, and plan every variant (S3, S4, S9)."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tasks import paths
from tasks.config import Params, load
from tasks.planning.plan import plan
from tasks.planning.profile import profile
from tasks.planning.selection import select
from tasks.records import Hardware, ModelProfile, PlanEntry, Recipe, Selection
from tasks.stage import run_stage


def assess(params: Params, hardware: Hardware, folder: Path) -> tuple[ModelProfile, Selection, list[PlanEntry]]:
    """Profile the model in `folder`, rank the frameworks and plan the variants; raises ModelError or ConfigError."""
    model = profile(folder)
    selection = select(hardware, model, params.assess)
    return model, selection, plan(params, hardware, model, selection)


def write_plan(entries: Iterable[PlanEntry], folder: Path) -> None:
    """Write one file per variant and remove those of variants that are no longer there."""
    wanted = {f"{entry.variant}.json": entry for entry in entries}
    for file in folder.glob("*.json"):
        if file.name not in wanted:
            file.unlink()
    for name, entry in wanted.items():
        entry.write(folder / name)


def parser() -> argparse.ArgumentParser:
    """Arguments of the stage."""
    return argparse.ArgumentParser(prog="python -m tasks.assess", description=__doc__)


def main(argv: Sequence[str] | None = None) -> int:
    """Write profile, selection and plan under artifacts/, and print them."""
    parser().parse_args(argv)
    return run_stage(_stage)


def _stage() -> None:
    model, selection, entries = assess(load(), Hardware.read(paths.HARDWARE), paths.MODEL)
    model.write(paths.PROFILE)
    selection.write(paths.SELECTION)
    write_plan(entries, paths.PLAN)
    console = Console()
    show(model, selection, entries, console if console.is_terminal else Console(width=140))


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
    planned = Table("variant", "action", "reason", "recipe", "timed here", title="plan", title_justify="left")
    for entry in entries:
        speed = "yes" if entry.speed_on_device.ok else "not this device"
        planned.add_row(entry.variant, entry.action, entry.reason, how(entry.recipe), speed)
    console.print(planned)


def how(recipe: Recipe) -> str:
    """A recipe in a few words; its reasons stand in the plan's file."""
    group = f", groups of {recipe.group_size}" if recipe.group_size else ""
    share = f", {recipe.ratio:.0%} of layers" if recipe.ratio < 1 else ""
    return f"{recipe.precision} {recipe.method}{group}{share}"


if __name__ == "__main__":
    raise SystemExit(main())
