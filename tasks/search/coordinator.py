"""The search itself: one process asks the strategy, lets the bench work, writes down what came of it, and answers.

A candidate goes up a ladder: planned, made (size, distance on the probe), glanced (one block of timing), scored
(quality, in looks), timed (in turns with the reference). It is cut where a limit is surely broken, and left where it
promises nothing over the best. In the end those that noise does not tell from the best are timed again, for longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tasks.kinds.demands import Limit
from tasks.records.search import RUNGS, Found, Miss, Rung, Step, Trial, Volume
from tasks.search import front
from tasks.search.strategies import Strategy, next_rung
from tasks.search.study import Notebook
from tasks.search.wishes import FRONT, Wishes, bound_of, said

WIDTH = 12  # of the strategy's order, in which those that go the same way are done together
Tell = Callable[[str], None]


class Bench(Protocol):
    """Brings candidates up the ladder."""

    def advance(self, names: Sequence[str], rung: Rung) -> Mapping[str, Step]:
        """Make, score or time these; what goes wrong with one is its step's reason."""
        ...

    def again(self, names: Sequence[str]) -> Mapping[str, Step]:
        """Time these once more in turns, for longer than before."""
        ...

    def drop(self, name: str) -> None:
        """Delete a candidate's files."""
        ...

    def now(self) -> float:
        """Seconds on a clock of the bench."""
        ...


@dataclass
class Coordinator:
    """One search over candidates."""

    wanted: Wishes
    strategy: Strategy
    bench: Bench
    study: Notebook
    within_s: float
    at_once: Mapping[Rung, int]  # candidates of a rung that are done together
    disk_mb: float = float("inf")
    tell: Tell = lambda _: None
    _volumes: list[Volume] = field(default_factory=list)

    def run(self, trials: Sequence[Trial]) -> Found:
        """Search until nothing is promised any more or the time is up; `trials` has one for every candidate."""
        known = {one.name: one for one in trials}
        began, before = self.bench.now(), self.study.spent()
        ended = ""
        while not ended:
            spent = before + self.bench.now() - began
            order = [name for name in self.strategy.following(list(known.values())) if known[name].standing == "open"]
            if not order:
                ended = "no candidate that is left promises more"
            elif spent >= self.within_s:
                ended = f"the time was up, {len(order)} candidates were left"
            else:
                self._step(known, order)
                self._note(known, before + self.bench.now() - began)
        spent = before + self.bench.now() - began
        leaders = self._leaders(list(known.values())) if spent < self.within_s else []
        if leaders:
            self.tell(f"timed again for longer, as noise does not tell them apart: {', '.join(leaders)}")
            self._again(known, leaders)
            spent = before + self.bench.now() - began
            self._note(known, spent)
        for one in known.values():
            if one.standing == "open" and one.number is not None:
                self.study.note(one)
        return self._answer(known, spent, ended)

    def _step(self, known: dict[str, Trial], order: Sequence[str]) -> None:
        rung = next_rung(known[order[0]])
        alike = [name for name in order[:WIDTH] if next_rung(known[name]) == rung][: self.at_once[rung]]
        for name in alike:
            if known[name].number is None:
                known[name] = self.study.begin(known[name])
        for name, step in self.bench.advance(alike, rung).items():
            known[name] = self._judged(known[name].after(step))
            self.tell(_line(known[name], step))
            self._write(known[name])

    def _leaders(self, trials: Sequence[Trial]) -> list[str]:
        """The best and those whose interval reaches its own, while one was timed only once; none for a front."""
        if self.wanted.objective == FRONT:
            return []
        worths = {one.name: self.wanted.gains(one.figures) for one in self._measured(trials, feasible=True)}
        spans = {name: self.wanted.worth(gains) for name, gains in worths.items() if gains is not None}
        if not spans:
            return []
        best = max(spans, key=lambda name: sum(spans[name]))
        near = [name for name in sorted(spans, key=lambda name: -sum(spans[name])) if spans[name][1] >= spans[best][0]]
        near = near[: self.at_once[RUNGS[-1]]]
        once = {one.name for one in trials if sum(step.rung == RUNGS[-1] for step in one.steps) == 1}
        return near if len(near) > 1 and once & set(near) else []

    def _again(self, known: dict[str, Trial], leaders: Sequence[str]) -> None:
        """Time leaders again; each is one more trial of the study, as those that were told stay as they are."""
        for name, step in self.bench.again(leaders).items():
            if not step.ok:  # what was measured before stands
                self.tell(f"{name}: {step.reason}")
                continue
            known[name] = self._judged(self.study.begin(known[name]).after(step))
            self.tell(_line(known[name], step))
            self._write(known[name])

    def _judged(self, one: Trial) -> Trial:
        broken = self.wanted.broken(one.figures) if one.standing == "open" else ""
        return one.cut(broken) if broken else one

    def _write(self, one: Trial) -> None:
        if one.standing == "open":
            self.study.note(one)
            return
        gains = self.wanted.gains(one.figures)
        value = sum(self.wanted.worth(gains)) / 2 if gains is not None else -10.0
        self.study.end(one, value, imputed=gains is None)

    def _note(self, known: dict[str, Trial], spent: float) -> None:
        self.study.spent(spent)
        volume = self._volume(known)
        if not self._volumes or volume > self._volumes[-1].volume:
            self._volumes.append(Volume(seconds=round(spent, 1), volume=volume))
        self._make_room(known)

    def _volume(self, known: Mapping[str, Trial]) -> float:
        """Of the axes but quality, whose gain is a loss by nature: limits guard it."""
        aims = {name: spec for name, spec in self.wanted.axes.items() if spec.group != "quality"}
        found = []
        for one in self._measured(known.values(), feasible=True):
            gains = self.wanted.gains(one.figures, aims)
            if gains is not None:
                found.append([sum(own) / 2 for own in gains.values()])
        return front.volume(found)

    def _measured(self, trials: Iterable[Trial], feasible: bool) -> list[Trial]:
        every = [one for one in trials if one.standing == "measured"]
        return [one for one in every if self.wanted.feasible(one.figures)] if feasible else every

    def _make_room(self, known: dict[str, Trial]) -> None:
        """Delete artifacts within the disk budget: those given up first, then those that are beaten."""
        kept = {name: one for name, one in known.items() if "artifact_mb" in one.figures and not one.dropped}
        sizes = {name: one.figures["artifact_mb"].value for name, one in kept.items()}
        on_front = set(self._front(list(known.values())))
        rank = {"failed": 0, "cut": 0, "measured": 1, "open": 2}
        going = sorted(
            (name for name in kept if name not in on_front), key=lambda name: (rank[kept[name].standing], -sizes[name])
        )
        while sum(sizes.values()) > self.disk_mb and going:
            name = going.pop(0)
            if kept[name].standing == "open":
                break
            self.bench.drop(name)
            known[name] = known[name].model_copy(update={"dropped": True})
            del sizes[name]

    def _front(self, trials: Sequence[Trial]) -> tuple[str, ...]:
        some = self._measured(trials, feasible=True) or self._measured(trials, feasible=False)
        gains = {one.name: self.wanted.gains(one.figures, self.wanted.axes) for one in some}
        return front.front({name: own for name, own in gains.items() if own is not None})

    def _answer(self, known: Mapping[str, Trial], spent: float, ended: str) -> Found:
        trials = list(known.values())
        wanted, on_front = self.wanted, self._front(trials)
        points = {name: wanted.gains(known[name].figures, wanted.axes) for name in on_front}
        knee = front.knee({name: own for name, own in points.items() if own is not None})
        feasible = self._measured(trials, feasible=True)
        sure = [one for one in feasible if not wanted.misses(one.figures)]
        best = self._best(sure or feasible, knee)
        near = None if best else self._nearest(trials)
        found = Found(
            objective=wanted.objective,
            limits={limit.spec.name: _bound(limit) for limit in wanted.limits},
            within_s=self.within_s,
            spent_s=round(spent, 1),
            ended=ended,
            trials=tuple(trials),
            best=best.name if best else None,
            sure=bool(best and sure),
            front=on_front,
            knee=knee,
            nearest=near.name if near else None,
            misses=wanted.misses((best or near).figures) if (best or near) else (),  # type: ignore[union-attr]
            volumes=tuple(self._volumes),
        )
        return found.model_copy(update={"reason": in_words(wanted, found)})

    def _best(self, some: Sequence[Trial], knee: str | None) -> Trial | None:
        if self.wanted.objective == FRONT:
            return next((one for one in some if one.name == knee), some[0] if some else None)
        worths = {one.name: self.wanted.gains(one.figures) for one in some}
        known = [one for one in some if worths[one.name] is not None]
        return max(known, key=lambda one: sum(self.wanted.worth(worths[one.name] or {})), default=None)

    def _nearest(self, trials: Sequence[Trial]) -> Trial | None:
        """The one that misses its limits by the least; one that was measured before one that was not."""
        some = self._measured(trials, feasible=False) or [one for one in trials if one.steps and one.standing == "cut"]
        return min(some, key=lambda one: sum(miss.by for miss in self.wanted.misses(one.figures)), default=None)


def _bound(limit: Limit) -> dict[str, float]:
    return {"min" if limit.minimum is not None else "max": bound_of(limit)}


def _line(one: Trial, step: Step) -> str:
    shown = ", ".join(f"{name} {figure.value:.4g}" for name, figure in list(step.figures.items())[:5])
    what = shown if step.ok else step.reason
    more = f" - cut: {one.reason}" if one.standing == "cut" else ""
    return f"{one.name}: {step.rung if step.ok else 'failed'} in {step.seconds:.0f} s; {what}{more}"


def in_words(wanted: Wishes, found: Found) -> str:
    """The answer in sentences: the best and how sure, or the nearest and what would have to be given up."""
    counted = f"{sum(one.standing == 'measured' for one in found.trials)} of {len(found.trials)} candidates measured"
    if found.best:
        own = found.trial(found.best)
        facts = ", ".join(
            f"{name} {own.figures[spec.name].value:.3g}"
            for name, spec in wanted.axes.items()
            if spec.name in own.figures
        )
        doubt = "" if found.sure else f"; not sure, as the intervals hold limits: {_missed(wanted, found.misses)}"
        return f"{found.best} is the best by {found.objective}: {facts}{doubt} ({counted}; {found.ended})."
    if not found.nearest:
        return f"Nothing was measured ({found.ended})."
    given_up = ", ".join(wanted.known[miss.metric].title for miss in found.misses if not miss.open)
    return (
        f"Nothing keeps all limits. The nearest is {found.nearest}: {_missed(wanted, found.misses)}. "
        f"To take it, give up: {given_up or 'certainty'}. {_alternatives(wanted, found)}({counted}; {found.ended})."
    )


def _missed(wanted: Wishes, misses: Sequence[Miss]) -> str:
    limits = {limit.spec.name: limit for limit in wanted.limits}
    return "; ".join(
        f"{wanted.known[miss.metric].title} {miss.value:.4g}, {said(limits[miss.metric])}"
        + (" (undecided)" if miss.open else f", {miss.by:.0%} away")
        for miss in misses
    )


def _alternatives(wanted: Wishes, found: Found) -> str:
    """For each limit that stands alone in the way: what could be had without it."""
    said_of = []
    for limit in wanted.limits:
        others = [
            one
            for one in found.trials
            if one.standing in ("measured", "cut")
            and limit.spec.name in one.figures
            and all(miss.metric == limit.spec.name or miss.open for miss in wanted.misses(one.figures))
        ]
        key = limit.spec.name
        best = max if limit.minimum is not None else min
        chosen = best(others, key=lambda one: one.figures[key].value, default=None)
        if chosen is not None:
            said_of.append(
                f"{limit.spec.title} of {chosen.figures[key].value:.4g} ({chosen.name}) in place of {bound_of(limit):g}"
            )
    return f"All other limits are kept with {' or '.join(said_of)}. " if said_of else ""
