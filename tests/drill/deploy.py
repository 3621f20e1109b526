"""make drill-deploy: the last run's winners bundled for every target, validated, started where they run, compared.

Each target is judged by its own gates first; what they do not pass is bundled anyway, and says so, as this is about the
bundles. A budget that is exceeded must be answered with what would fit. The last line is JSON.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tasks.bundle import bundle
from tasks.errors import ConfigError
from tasks.params.load import load_params
from tasks.records.bundles import Bundle
from tasks.run.workspace import Workspace
from tasks.targets import showing, table
from tests.bench.harness import Figures, Limit, main, parser, tell

LIMITS = {
    "built": Limit(least=1.0),  # share of the targets
    "refused_by_validators": Limit(most=0),
    "answers_that_differ": Limit(most=0),
    "engines_started": Limit(least=3),
    "budgets_without_a_way": Limit(most=0),
}


def drill(names: list[str], console: Console) -> Figures:
    """Bundle for each target out of this checkout's last run."""
    workspace, params = Workspace(), load_params()
    if not workspace.recommendation.exists():
        raise ConfigError("there is nothing to bundle yet: run `make run` first")
    found: dict[str, Bundle] = {}
    seconds: dict[str, float] = {}
    for name in names or table.BUNDLING:
        tell(f"bundle {name}")
        began = time.monotonic()
        found[name] = bundle(workspace, params, name, anyway=True)
        seconds[name] = time.monotonic() - began
        showing.show(found[name], workspace.bundle(name), console)
    console.print(table_of(found, seconds))
    return figures(found)


def figures(found: dict[str, Bundle]) -> Figures:
    """What came of it, in counts."""
    engines = [one.compared.state for one in found.values() if one.compared is not None]
    refused = sum(check.state == "failed" for one in found.values() for check in one.checks)
    return Figures(
        built=sum(bool(one.parts) for one in found.values()) / len(found),
        refused_by_validators=refused,
        answers_that_differ=engines.count("failed"),
        engines_started=engines.count("ok"),
        budgets_without_a_way=sum(one.within is False and not one.fitting for one in found.values()),
        budgets_exceeded=sum(one.within is False for one in found.values()),
        not_measured=sum(check.state == "not-measured" for one in found.values() for check in one.checks),
    )


def table_of(found: dict[str, Bundle], seconds: dict[str, float]) -> Table:
    """A line a target."""
    made = Table(title="what was shipped", title_justify="left")
    for name in (
        "target",
        "variant, its verdict",
        "size, MB",
        "budget",
        "validators",
        "answers",
        "not measured here",
        "s",
    ):
        made.add_column(name)
    for name, one in found.items():
        states = Counter(check.state for check in one.checks)
        said = f"{states['ok']} ok" + (f", {states['failed']} REFUSED" if states["failed"] else "")
        absent = ", ".join(check.name for check in one.checks if check.state == "not-measured") or "-"
        budget = "-" if one.budget_mb is None else f"{one.budget_mb:g}" + ("" if one.within else ", exceeded")
        answered = "-" if one.compared is None else f"{one.compared.state}: {one.compared.reason}"
        variant = f"{one.variant}, {one.verdict}" if one.variant else one.reason
        made.add_row(
            name, variant, f"{one.size_mb:.1f}", budget, said, answered, absent, f"{seconds[name]:.0f}"
        )  # fmt: skip
    return made


def command() -> int:
    """Run it."""
    made = parser("drill.deploy", __doc__)
    made.add_argument("--target", action="append", default=[], choices=table.BUNDLING, help="only these")
    told = made.parse_args()
    console = Console(width=200, file=sys.stdout)

    def work(scratch: Path) -> Figures:
        return drill(told.target, console)

    asked = ("refused_by_validators", "answers_that_differ") if told.target else tuple(LIMITS)
    return main("drill-deploy", work, {name: LIMITS[name] for name in asked})


if __name__ == "__main__":
    raise SystemExit(command())
