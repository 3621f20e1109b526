"""Run all drills: rollouts that go wrong, then the repairs of a real server. The last line is JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.records.base import write_text
from tests.bench import harness
from tests.bench.harness import Figures
from tests.drill import promotion, repair

REPORT = Path("artifacts/monitor/drill.md")


def drill(scratch: Path, halves: Sequence[str], report: Path) -> Figures:
    """Figures of these halves; the course of each repair goes to the file `report`."""
    figures: Figures = {}
    if "rollouts" in halves:
        figures |= promotion.drill(scratch / "rollouts")
    if "repairs" in halves:
        more, found = repair.drill(scratch / "repairs")
        write_text(report, repair.report(found))
        figures |= more
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Run `make drill`; exit code 1 when one fails."""
    limits = {"rollouts": promotion.LIMITS, "repairs": repair.LIMITS}
    made = harness.parser("drill", __doc__)
    made.add_argument("--only", choices=tuple(limits), help="one half (both)")
    made.add_argument("--report", type=Path, default=REPORT, help=f"file for the course of each repair ({REPORT})")
    asked = made.parse_args(argv)
    halves = (asked.only,) if asked.only else tuple(limits)
    kept = {name: limit for half in halves for name, limit in limits[half].items()}
    return harness.main("drill", lambda scratch: drill(scratch, halves, asked.report), kept)


if __name__ == "__main__":
    raise SystemExit(main())
