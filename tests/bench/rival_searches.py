"""Other ways to search, which ours is timed beside; each candidate goes to its end before the next is asked for."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from tasks.params.pipeline import Variant
from tasks.records.search import Trial
from tasks.search.strategies import AtRandom, ByTpe, OneAtATime, _Base, choices, point, suggested, told
from tasks.search.wishes import Wishes

POPULATION = 6


def value(wanted: Wishes, one: Trial) -> float:
    """What single-minded rivals maximize: the objective, less what limits are missed by."""
    gains = wanted.gains(one.figures)
    if one.standing != "measured" or gains is None:
        return -5.0
    return sum(wanted.worth(gains)) / 2 - 4 * sum(miss.by for miss in wanted.misses(one.figures) if not miss.open)


class ByNsga(OneAtATime):
    """Optuna's NSGA-II with a small population."""

    def asked(self, trials: Sequence[Trial], still: Sequence[str]) -> str:
        import optuna

        sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=self._seed + len(still))
        return suggested(told(self._wanted, self._candidates, trials, self._seed, sampler), self._candidates, still)


class ByHillClimbing(OneAtATime):
    """From the best so far to a neighbour that differs in one knob; without one, from a new place."""

    def asked(self, trials: Sequence[Trial], still: Sequence[str]) -> str:
        dice = random.Random(self._seed * 7919 + len(still))
        measured = [one for one in trials if one.standing == "measured"]
        if measured:
            best = point(self._candidates[max(measured, key=lambda one: value(self._wanted, one)).name])

            def away(name: str) -> int:
                own = point(self._candidates[name])
                return sum(own[key] != best[key] for key in own)

            near = min(away(name) for name in still)
            if near <= 1:
                return dice.choice([name for name in still if away(name) == near])
        return dice.choice(list(still))


class ByHalving(_Base):
    """Successive halving over our rungs: all are made, the better half is scored, the better half of that is timed.

    Better is by the distance on the probe, then by the divergence; speed is not known before it is timed.
    """

    def following(self, trials: Sequence[Trial]) -> list[str]:
        order = [one for one in trials if one.standing == "open"]
        for rung, metric in (("planned", ""), ("made", "probe_distance"), ("scored", self._quality)):
            if metric:
                reached = [one for one in trials if metric in one.figures]
                reached.sort(key=lambda one: one.figures[metric].value)
                half = {one.name for one in reached[: max(1, len(reached) // 2)]}
                here = [one.name for one in order if one.rung == rung and one.name in half]
            else:
                here = [one.name for one in order if one.rung == rung]
                random.Random(self._seed).shuffle(here)
            if here:
                return here
        return []

    @property
    def _quality(self) -> str:
        return next(spec.name for spec in self._wanted.axes.values() if spec.group == "quality")


class ByOlive(OneAtATime):
    """Olive's own TPE sampler class, fed as its engine feeds it; points that are no recipe are told as worthless."""

    def __init__(self, candidates: Mapping[str, Variant], seeds: Sequence[str], wanted: Wishes, seed: int) -> None:
        super().__init__(candidates, seeds, wanted, seed)
        from olive.search.samplers.tpe_sampler import TPESampler
        from olive.search.search_parameter import Categorical
        from olive.search.search_space import SearchSpace

        knobs = {key: list(one.choices) for key, one in choices(candidates).items()}
        space = SearchSpace([("recipe", SearchSpace([(key, Categorical(some)) for key, some in knobs.items()]))])
        self._sampler: Any = TPESampler(space, {"seed": seed}, {"worth": {"priority": 1, "higher_is_better": True}})
        self._waiting: dict[str, int] = {}

    def asked(self, trials: Sequence[Trial], still: Sequence[str]) -> str:
        known = {one.name: one for one in trials}
        for name, index in list(self._waiting.items()):
            signal = {"worth": SimpleNamespace(value=value(self._wanted, known[name]))}
            self._sampler.record_feedback_signal(index, signal)
            del self._waiting[name]
        for _ in range(60):
            offered = self._sampler.suggest()
            if offered is None:
                break
            asked = {key: told_of for key, (_, told_of) in offered.values["recipe"][1].items()}
            exact = [name for name in still if point(self._candidates[name]) == asked]
            if exact:
                self._waiting[exact[0]] = offered.index
                return exact[0]
            self._sampler.record_feedback_signal(offered.index, {"worth": SimpleNamespace(value=-5.0)})
        return random.Random(self._seed + len(still)).choice(list(still))


RIVALS = {
    "random": AtRandom, "TPE alone": ByTpe, "NSGA-II": ByNsga, "halving": ByHalving, "hill climbing": ByHillClimbing,
    "Olive's sampler": ByOlive,
}  # fmt: skip
