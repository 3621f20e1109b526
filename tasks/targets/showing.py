"""A bundle in the terminal: what it weighs, what validators said, whether it answers."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tasks.records.bundles import Bundle

MARKS = {"ok": "ok", "failed": "FAILED", "not-measured": "not measured on this device"}


def show(found: Bundle, place: Path, console: Console) -> None:
    """Print one bundle's ledger, checks and comparison."""
    if found.status == "refused":
        console.print(f"{found.target}: refused: {found.reason}", highlight=False, markup=False)
        return
    if found.parts:
        console.print(_ledger(found))
    for one in found.checks:
        console.print(f"  {one.name}: {MARKS[one.state]}: {one.reason}", highlight=False, markup=False)
    if found.compared is not None:
        said = found.compared
        console.print(f"  {said.engine}: {MARKS[said.state]}: {said.reason}", highlight=False, markup=False)
    for change in found.fitting:
        how = "measured" if change.measured else "planned"
        console.print(
            f"  would fit, {how}: {change.what}: {change.size_mb:.1f} MB; {change.quality}",
            highlight=False,
            markup=False,
        )
    if wish := search_for(found):
        console.print(f"  to have recipes of that size looked for: {wish}", highlight=False, markup=False)
    if found.anyway:
        console.print(f"  bundled anyway, and the bundle says so: {found.anyway}", highlight=False, markup=False)
    where = f" in {place}" if found.status == "ok" or found.parts else ""
    console.print(
        f"{found.target}: {found.status}: {found.variant}, {_size(found)}{where}: {found.reason}",
        highlight=False,
        markup=False,
    )


def search_for(found: Bundle) -> str:
    """The search that looks for weights which keep the budget; empty where none is exceeded, or the rest exceeds it."""
    rest = sum(one.installed_bytes for one in found.parts if one.component not in ("weights", "embedding")) / 1e6
    if found.within is not False or found.budget_mb is None or found.variant is None or rest >= found.budget_mb:
        return ""
    runtime = found.variant.split("-")[0]
    only = f"search: {{only: [{runtime}-*]}} in params.local.yaml keeps to {runtime}"
    return f"make search MAX_SIZE_MB={math.floor(found.budget_mb - rest)} ({only})"


def _size(found: Bundle) -> str:
    budget = "" if found.budget_mb is None else f" of {found.budget_mb:g} MB"
    return f"{found.size_mb:.1f}{budget} MB" if not budget else f"{found.size_mb:.1f}{budget}"


def _ledger(found: Bundle) -> Table:
    table = Table(title=f"{found.target}: {found.variant} for {found.device}", title_justify="left")
    for name in ("component", "what"):
        table.add_column(name)
    for name in ("download, MB", "installed, MB"):
        table.add_column(name, justify="right")
    for one in found.parts:
        name = f"{one.name} ({one.abi})" if one.abi else one.name
        table.add_row(one.component, name, f"{one.download_bytes / 1e6:.2f}", f"{one.installed_bytes / 1e6:.2f}")
    table.add_section()
    table.add_row("all", "", f"{found.download_mb:.2f}", f"{found.size_mb:.2f}")
    return table
