"""Which candidates are followed next: one interface, several ways, of which `make bench-search` tells the better."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tasks.params.pipeline import Variant
from tasks.params.searching import Strategy as Name
from tasks.records.search import RUNGS, Rung, Trial
from tasks.search.space import features
from tasks.search.surrogate import Surrogate, improvement
from tasks.search.wishes import FRONT, Wishes

PROMISE = 0.01  # of a gain; where nothing open is expected to bring more, a search ends
MEASURED = 3  # candidates that were measured before it may end so
USUAL_S: Mapping[Rung, float] = {"made": 40.0, "glanced": 12.0, "scored": 30.0, "timed": 60.0}  # until one was seen


class Strategy(Protocol):
    """A way to search. It keeps nothing: all it knows are the trials, so that a search goes on where it was killed."""

    def following(self, trials: Sequence[Trial]) -> list[str]:
        """Open candidates in the order in which they are to be brought one rung further; none: enough was seen."""
        ...


def strategy(
    name: Name, candidates: Mapping[str, Variant], seeds: Sequence[str], wanted: Wishes, seed: int
) -> Strategy:
    """The strategy of that name."""
    kinds: dict[str, Callable[..., Strategy]] = {"surrogate": BySurrogate, "tpe": ByTpe, "random": AtRandom}
    return kinds[name](candidates, seeds, wanted, seed)


def next_rung(trial: Trial) -> Rung:
    """The rung that a trial is to be brought to."""
    return RUNGS[RUNGS.index(trial.rung) + 1]


class _Base:
    def __init__(self, candidates: Mapping[str, Variant], seeds: Sequence[str], wanted: Wishes, seed: int) -> None:
        """Candidates by name, and those among them to begin with."""
        self._candidates, self._seeds, self._wanted, self._seed = candidates, seeds, wanted, seed


class BySurrogate(_Base):
    """Expected improvement times the chance to keep all limits, for what it costs to know; one rung at a time.

    It begins with the seeds. For a whole front, weights are drawn anew each time (Knowles 2006, ParEGO).
    """

    def following(self, trials: Sequence[Trial]) -> list[str]:
        """See `Strategy`."""
        still = [one for one in trials if one.standing == "open" and one.name in self._candidates]
        measured = [one for one in trials if one.standing == "measured"]
        first = [one.name for one in still if one.name in self._seeds]
        model = Surrogate(self._wanted, self._places, trials)
        shares = self._shares(len(trials), trials)
        best = max((model.worth(one, shares).mean for one in measured if not self._broken(one)), default=None)
        scores = {one.name: self._score(model, one, shares, best, trials) for one in still}
        promising = [name for name, (promise, _) in scores.items() if promise >= PROMISE]
        if len(measured) >= MEASURED and not first and not promising:
            return []
        ordered = sorted(scores, key=lambda name: (name not in first, -scores[name][1], name))
        return ordered

    @property
    def _places(self) -> Mapping[str, Sequence[float]]:
        if not hasattr(self, "_kept"):
            self._kept = features(self._candidates)
        return self._kept

    def _broken(self, one: Trial) -> bool:
        return not self._wanted.feasible(one.figures)

    def _shares(self, number: int, trials: Sequence[Trial]) -> Mapping[str, float]:
        if self._wanted.objective != FRONT:
            return self._wanted.shares()
        steps = sum(len(one.steps) for one in trials)
        dice = random.Random(self._seed * 1009 + steps)  # noqa: S311 - a draw, not a secret
        drawn = {name: dice.expovariate(1.0) for name in self._wanted.aims}
        return {name: value / sum(drawn.values()) for name, value in drawn.items()}

    def _score(
        self, model: Surrogate, one: Trial, shares: Mapping[str, float], best: float | None, trials: Sequence[Trial]
    ) -> tuple[float, float]:
        """What a candidate promises, and that for the time it takes to know."""
        chance, worth = model.feasible(one), model.worth(one, shares)
        gain = improvement(worth, best) if best is not None else max(worth.mean + worth.sd, 0.05)
        left = RUNGS[RUNGS.index(one.rung) + 1 :]
        return chance * gain, chance * gain / sum(self._seconds(one, rung, trials) for rung in left)

    def _seconds(self, one: Trial, rung: Rung, trials: Sequence[Trial]) -> float:
        """What a rung took of its like so far: of the same backend and method, else of all."""
        own = self._candidates[one.name]
        taken: list[tuple[bool, float]] = []
        for other in trials:
            like = self._candidates.get(other.name)
            same = like is not None and (like.backend, like.method) == (own.backend, own.method)
            taken += [(same, step.seconds) for step in other.steps if step.rung == rung and step.ok]
        near = [seconds for same, seconds in taken if same] or [seconds for _, seconds in taken]
        return max(1.0, sum(near) / len(near)) if near else USUAL_S[rung]


class OneAtATime(_Base, ABC):
    """Follows each candidate to its end before it asks for the next; the seeds come first."""

    def following(self, trials: Sequence[Trial]) -> list[str]:
        """See `Strategy`."""
        still = {one.name: one for one in trials if one.standing == "open"}
        begun = [name for name, one in still.items() if one.steps]
        if begun or not still:
            return begun
        first = [name for name in self._seeds if name in still]
        return first[:1] or [self.asked(trials, list(still))]

    @abstractmethod
    def asked(self, trials: Sequence[Trial], still: Sequence[str]) -> str:
        """The next of those that were not begun."""


class AtRandom(OneAtATime):
    """Candidates in an order of chance."""

    def asked(self, trials: Sequence[Trial], still: Sequence[str]) -> str:
        """See `OneAtATime`."""
        dice = random.Random(self._seed)  # noqa: S311
        left = set(still)
        return next(name for name in dice.sample(sorted(self._candidates), len(self._candidates)) if name in left)


class ByTpe(OneAtATime):
    """Optuna's tree-structured Parzen estimator over the whole conditional space."""

    def asked(self, trials: Sequence[Trial], still: Sequence[str]) -> str:
        """See `OneAtATime`."""
        return suggested(told(self._wanted, self._candidates, trials, self._seed), self._candidates, still)


def suggested(study: Any, candidates: Mapping[str, Variant], still: Sequence[str]) -> str:
    """What a study asks for, as the nearest candidate that is left."""
    for _ in range(50):
        name = nearest(study.ask(choices(candidates)).params, candidates, still)
        if name is not None:
            return name
    return still[0]


def told(
    wanted: Wishes, candidates: Mapping[str, Variant], trials: Sequence[Trial], seed: int, sampler: Any = None
) -> Any:
    """An Optuna study that holds what is known, failures and broken limits as well: a sampler learns of them."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    own = sampler or optuna.samplers.TPESampler(
        seed=seed + len(trials), multivariate=True, group=True, n_startup_trials=6
    )
    study = optuna.create_study(direction="maximize", sampler=own)
    known = [(one, wanted.gains(one.figures)) for one in trials if one.standing == "measured"]
    worths = [sum(wanted.worth(gains)) / 2 for _, gains in known if gains is not None]
    worst = min(worths, default=0.0) - 1.0
    for one in trials:
        if one.name not in candidates or one.standing == "open":
            continue
        gains = wanted.gains(one.figures)
        good = one.standing == "measured" and gains is not None
        value = sum(wanted.worth(gains)) / 2 if good and gains is not None else worst
        beyond = sum(miss.by for miss in wanted.misses(one.figures) if not miss.open) if good else 1.0
        study.add_trial(
            optuna.trial.create_trial(
                params=point(candidates[one.name]),
                distributions=choices(candidates),
                value=value - beyond,
            )
        )
    return study


def point(variant: Variant) -> dict[str, Any]:
    """A variant as Optuna's parameters."""
    knobs = {"group": variant.group_size, "even": variant.symmetric, "ratio": variant.ratio, "bits": variant.bits}
    knobs |= {"kept": variant.experts * variant.channels}
    return {"recipe": f"{variant.backend}/{variant.precision}/{variant.method}", **knobs}


def choices(candidates: Mapping[str, Variant]) -> dict[str, Any]:
    """Optuna's distributions over the candidates."""
    import optuna

    points = [point(one) for one in candidates.values()]
    return {
        key: optuna.distributions.CategoricalDistribution(sorted({one[key] for one in points})) for key in points[0]
    }


def nearest(asked: Mapping[str, Any], candidates: Mapping[str, Variant], still: Sequence[str]) -> str | None:
    """The open candidate of the recipe that was asked for whose knobs are nearest; None where it has none."""
    like = [name for name in still if point(candidates[name])["recipe"] == asked["recipe"]]

    def away(name: str) -> int:
        own = point(candidates[name])
        return sum(own[key] != value for key, value in asked.items())

    return min(like, key=away, default=None)
