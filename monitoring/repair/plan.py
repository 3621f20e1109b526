"""S23: steps that may repair what an alert is about, one after the other, each judged by the figure that raised it.

    alert ─diagnosis─> plan ─> apply ─observe─┬─ the alert is over ──────────> kept, done
                                 ▲            ├─ the figure is better ───────> kept, the next step too
                                 └────────────┴─ it is not ──────────────────> undone, the next step
                                                  no step is left ───────────> a person, with the whole history

Pure: a `Repair` and what a window showed come in, the next `Repair` and what is to be done go out. It is on the disk
before anything is done, and everything can be done again. There is one repair at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from monitoring.repair.diagnose import Cause, Step
from tasks.params.watching import Repair as Settings
from tasks.records.base import Record

Outcome = Literal["kept", "undone", "no help", "impossible"]
Phase = Literal["apply", "observe", "undo"]
DAY_S = 86_400.0
FOR_GOOD = ("rollback", "fresh", "reoptimize", "retrain")  # steps with nothing to take back


class Try(Record):
    """One step that was tried."""

    step: Step
    done: str  # what was really done, in words
    outcome: Outcome
    before: float | None  # the alert's figure
    after: float | None
    seconds: float  # from the step to its judgement


class Repair(Record):
    """What is under way for one alert."""

    alert: str
    metric: str
    version: str
    began: float
    causes: tuple[str, ...]  # the evidence, for whoever is called in the end
    steps: tuple[Step, ...]  # what is left, the first of them under way
    phase: Phase = "apply"
    since: float = 0.0  # when the phase began
    origin: str = ""  # what served before the step under way, once that was begun
    done: str = ""
    before: float | None = None
    worse_is: Literal["more", "less"] = "more"
    tries: tuple[Try, ...] = ()


class Entry(Record):
    """One line of the book of repairs."""

    when: str  # UTC, ISO 8601
    alert: str
    version: str
    step: str
    outcome: str
    said: str
    before: float | None
    after: float | None


class Move(NamedTuple):
    """What follows: the repair from now on (None: it is over) and what to do in the world."""

    repair: Repair | None
    act: Literal["apply", "undo", "wait", "escalate", "solved"]
    tried: Try | None = None


def plan(causes: Sequence[Cause]) -> tuple[Step, ...]:
    """The steps of all causes, those of the likeliest first, each once.

    >>> one = Cause(name="", trouble="slow", weight=0.9, evidence="", steps=("cores", "smaller"))
    >>> plan([one, one.model_copy(update={"steps": ("smaller", "rollback")})])
    ('cores', 'smaller', 'rollback')
    """
    return tuple(dict.fromkeys(step for cause in causes for step in cause.steps))


def may(settings: Settings, steps: Sequence[float], ended: float | None, now: float) -> str:
    """Why nothing may be begun now; empty when it may.

    `steps` are the times of those taken, `ended` is that of the end of the last repair.

    >>> may(Settings(), [], None, 0.0), may(Settings(enabled=False), [], None, 0.0)
    ('', 'repairs are switched off (monitor.repair.enabled)')
    """
    if not settings.enabled:
        return "repairs are switched off (monitor.repair.enabled)"
    today = sum(now - when < DAY_S for when in steps)
    if today >= settings.max_steps_per_day:
        return f"{today} steps in a day are as many as are allowed (monitor.repair.max_steps_per_day)"
    if ended is not None and now - ended < settings.cool_down_s:
        left = settings.cool_down_s - (now - ended)
        return f"the last repair ended less than {settings.cool_down_s:g} s ago; {left:.0f} s to wait"
    return ""


def applied(repair: Repair, done: str, now: float) -> Repair:
    """The step was taken."""
    return repair.model_copy(update={"phase": "observe", "since": now, "done": done})


def failed(repair: Repair, why: str) -> Move:
    """The step could not be taken, for the reason `why`: the next one."""
    return _next(
        repair, Try(step=repair.steps[0], done=why, outcome="impossible", before=repair.before, after=None, seconds=0)
    )


def observed(
    repair: Repair, settings: Settings, broken: bool | None, value: float | None, began: float, now: float
) -> Move:
    """What a window says that began at `began`: nothing of a step that was taken later, nor of one just taken."""
    if repair.phase != "observe":
        return Move(repair, "apply" if repair.phase == "apply" else "undo")
    whole = began >= repair.since and now - repair.since >= settings.observe_s
    if not whole or broken is None:
        return Move(repair, "wait")
    step = repair.steps[0]

    def tried(outcome: Outcome) -> Try:
        return Try(step=step, done=repair.done, outcome=outcome, before=repair.before, after=value,
                   seconds=round(now - repair.since, 1))  # fmt: skip

    if not broken:
        return Move(None, "solved", tried("kept"))
    if better(repair, value, settings.min_improvement):
        return _next(repair.model_copy(update={"before": value}), tried("kept"))
    if step in FOR_GOOD:
        return _next(repair, tried("no help"))
    return Move(repair.model_copy(update={"phase": "undo", "since": now}), "undo", tried("undone"))


def undone(repair: Repair, tried: Try) -> Move:
    """The step was taken back: the next one."""
    return _next(repair, tried)


def better(repair: Repair, value: float | None, share: float) -> bool:
    """Whether the figure is better than before the step, by a share of what it was.

    >>> one = Repair(alert="", metric="", version="", began=0, causes=(), steps=(), before=100.0)
    >>> better(one, 70.0, 0.2), better(one, 90.0, 0.2)
    (True, False)
    """
    if value is None or repair.before is None:
        return False
    gain = repair.before - value if repair.worse_is == "more" else value - repair.before
    return gain >= share * abs(repair.before)


def _next(repair: Repair, tried: Try) -> Move:
    tries, steps = (*repair.tries, tried), repair.steps[1:]
    after = repair.model_copy(update={"tries": tries, "steps": steps, "phase": "apply", "done": "", "origin": ""})
    return Move(after, "apply", tried) if steps else Move(None, "escalate", tried)
