"""What failed in a run, in words: the reason, the end of what the stage said, and how to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.run import stage

if TYPE_CHECKING:
    from flows.steps import Result

SHOWN = 12  # lines of a stage's last words
SCORED = ("recommend", "gate")  # the scorecard shows what they made


def lines(results: Sequence[Result], root: Path) -> list[str]:
    """A line for each stage that failed with its last words below, then what could not run, then how to go on."""
    made = []
    for one in (result for result in results if result.status == "failed"):
        made += [f"failed: {one.reason}", *(f"  | {line}" for line in said(one.name, root))]
    blocked = [result.name for result in results if result.status == "blocked"]
    if blocked:
        made.append(f"not run because of that: {', '.join(blocked)}")
    return made


def said(name: str, root: Path) -> list[str]:
    """The last words of a stage that ended with an error; none where it was killed."""
    file = root / stage.last_words(name)
    if not file.exists():
        return []
    return file.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-SHOWN:]


def has_own_scores(results: Sequence[Result]) -> bool:
    """Whether the scorecard on the disk is that of this run; else it is of an earlier one."""
    ended = {result.name: result.status for result in results}
    return all(ended.get(name) not in ("failed", "blocked") for name in SCORED)
