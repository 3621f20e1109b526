"""What a metric of a candidate will be, learned from the candidates that have it, with how sure that is.

A Bayesian linear model per metric (MacKay 1992; scikit-learn's BayesianRidge) over the recipe's features, and over what
cheaper rungs told: size on disk, distance from the reference on the probe. Speeds and sizes are modelled as doublings,
distances from perfect quality by their logarithm.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.kinds.catalogue import MetricSpec
from tasks.kinds.demands import Limit
from tasks.records.search import Figure, Trial
from tasks.search.wishes import Wishes, bound_of, span

FEWEST = 3  # candidates that a model is learned from; with fewer anything is possible
UNKNOWN = 2.0  # standard deviation where nothing was learned, in the model's scale
CAREFUL = 1.3  # standard deviations are widened: noise of few points is told too small
NEW = 0.5  # doublings by which the speed of a method that was never timed may differ from what its like suggest
SMALL = 0.02  # of a gain in quality, below which differences count no more
TOLD = ("artifact_mb", "probe_distance", "probe_agreement")  # figures of the rung `made` that later ones follow


@dataclass(frozen=True)
class Guess:
    """A gain as it is expected: mean and standard deviation in the model's scale."""

    mean: float
    sd: float

    def above(self, threshold: float) -> float:
        """Probability that it is at least so much."""
        if self.sd <= 0:
            return float(self.mean >= threshold)
        return 0.5 * math.erfc((threshold - self.mean) / (self.sd * math.sqrt(2)))


def _method(trial: Trial) -> tuple[str, ...]:
    return tuple(str(trial.variant.get(key, "default")) for key in ("backend", "precision", "method"))


def bent(spec: MetricSpec, gain: float) -> float:
    """A gain in the model's scale: as it is where it is a doubling, else by the logarithm of its distance from 0."""
    if spec.against or spec.group != "quality":
        return gain
    return math.copysign(math.log1p(abs(gain) / SMALL), gain)


def straight(spec: MetricSpec, value: float) -> float:
    """The inverse of `bent`."""
    if spec.against or spec.group != "quality":
        return value
    return math.copysign(math.expm1(min(abs(value), 50.0)) * SMALL, value)


class Surrogate:
    """All metrics of wishes, as far as the trials tell."""

    def __init__(self, wanted: Wishes, features: Mapping[str, Sequence[float]], trials: Sequence[Trial]) -> None:
        """Learn from the trials."""
        self._wanted, self._features = wanted, features
        self._trials = {one.name: one for one in trials}
        self._specs = {name: wanted.known[name] for name in wanted.metrics}
        self._methods: dict[str, frozenset[tuple[str, ...]]] = {}
        self._cache: dict[tuple[str, bool], Any] = {}

    def guess(self, trial: Trial, name: str) -> Guess:
        """A metric of a trial: what was measured, with its noise, else what is expected."""
        spec, figure = self._specs[name], trial.figures.get(name)
        if figure is not None:
            low, high = (bent(spec, end) for end in span(spec, figure))
            return Guess((low + high) / 2, (high - low) / 4)
        made = self._told(trial) is not None
        model = self._model(name, made)
        if model is None:
            return Guess(*self._prior(name))
        mean, sd = model.predict(np.array([self._row(trial, made)]), return_std=True)
        wide = CAREFUL * float(sd[0]) + 1e-3
        if spec.group == "speed" and _method(trial) not in self._seen(name):
            wide = math.hypot(wide, NEW)
        return Guess(float(mean[0]), wide)

    def _seen(self, name: str) -> frozenset[tuple[str, ...]]:
        """Methods of which the metric is known."""
        if name not in self._methods:
            self._methods[name] = frozenset(_method(one) for one in self._trials.values() if name in one.figures)
        return self._methods[name]

    def feasible(self, trial: Trial) -> float:
        """Probability that all limits are kept: that of the one most in doubt, as limits are kept and broken together.

        A product would make what is not known yet look hopeless: metrics of quality follow each other.
        """
        return min(
            (self.guess(trial, limit.spec.name).above(threshold(limit)) for limit in self._wanted.limits), default=1.0
        )

    def worth(self, trial: Trial, shares: Mapping[str, float]) -> Guess:
        """The aims, weighted, in gains."""
        mean = variance = 0.0
        for aim, spec in self._wanted.aims.items():
            guess = self.guess(trial, spec.name)
            middle = straight(spec, guess.mean)
            wide = (straight(spec, guess.mean + guess.sd) - straight(spec, guess.mean - guess.sd)) / 2
            mean += shares[aim] * middle
            variance += (shares[aim] * wide) ** 2
        return Guess(mean, math.sqrt(variance))

    def _prior(self, name: str) -> tuple[float, float]:
        spec = self._specs[name]
        known = [
            bent(spec, sum(span(spec, own.figures[name])) / 2) for own in self._trials.values() if name in own.figures
        ]
        return (float(np.mean(known)) if known else 0.0), UNKNOWN

    def _told(self, trial: Trial) -> list[float] | None:
        figures = trial.figures
        if TOLD[0] not in figures:
            return None
        values = [figures[name].value if name in figures else math.nan for name in TOLD]
        size, distance, agreement = values
        return [
            math.log2(max(size, 1e-3)) / 5,
            0.0 if math.isnan(distance) else math.log(max(distance, 1e-5)) / 5,
            0.0 if math.isnan(agreement) else agreement,
        ]

    def _row(self, trial: Trial, made: bool) -> list[float]:
        return [*self._features[trial.name], *((self._told(trial) or []) if made else [])]

    def _model(self, name: str, made: bool) -> Any:
        if (name, made) not in self._cache:
            self._cache[name, made] = self._learned(name, made)
        return self._cache[name, made]

    def _learned(self, name: str, made: bool) -> Any:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import BayesianRidge

        spec = self._specs[name]
        known = [one for one in self._trials.values() if name in one.figures and (not made or self._told(one))]
        values = [bent(spec, sum(span(spec, one.figures[name])) / 2) for one in known]
        usable = [n for n, value in enumerate(values) if math.isfinite(value)]
        if len(usable) < FEWEST:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = BayesianRidge()
            model.fit(np.array([self._row(known[n], made) for n in usable]), np.array([values[n] for n in usable]))
        return model


def threshold(limit: Limit) -> float:
    """The least gain in the model's scale that keeps a limit."""
    return bent(limit.spec, span(limit.spec, Figure(value=bound_of(limit)))[0])


def improvement(guess: Guess, best: float) -> float:
    """Expected improvement over `best` (Jones, Schonlau and Welch 1998).

    >>> round(improvement(Guess(1.0, 1.0), 1.0), 4)
    0.3989
    """
    if guess.sd <= 0:
        return max(0.0, guess.mean - best)
    z = (guess.mean - best) / guess.sd
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return (guess.mean - best) * 0.5 * math.erfc(-z / math.sqrt(2)) + guess.sd * density
