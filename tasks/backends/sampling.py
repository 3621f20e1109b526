"""Choosing the next token from logits: greedy, or by temperature and top-p with a seed of its own per request. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Sampling:
    """Settings by which a continuation is drawn; temperature 0 takes the likeliest token each time."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None

    @property
    def greedy(self) -> bool:
        """Tell whether nothing is drawn."""
        return self.temperature <= 0.0


class Sampler:
    """One request's draws: the same seed and logits give the same tokens, whatever else is generated beside it."""

    def __init__(self, sampling: Sampling) -> None:
        """Seed the dice; without a seed they differ each time."""
        self._sampling = sampling
        self._dice = np.random.default_rng(sampling.seed)
        self._room: Logits = np.empty(0, dtype=np.float32)  # for the sums; a vocabulary's worth, used again each time

    def next(self, logits: Logits) -> tuple[int, float]:
        """The next token and its log-probability, nats, under the model itself (temperature 1); logits (vocabulary,).

        >>> Sampler(Sampling()).next(np.log(np.array([0.25, 0.75], dtype=np.float32)))[0]
        1
        """
        best = int(logits.argmax())
        token = best if self._sampling.greedy else self._drawn(logits)
        if len(self._room) != len(logits):
            self._room = np.empty_like(logits)
        top = logits[best]
        np.subtract(logits, top, out=self._room)
        np.exp(self._room, out=self._room)
        return token, float(logits[token]) - float(top) - math.log(float(self._room.sum()))

    def _drawn(self, logits: Logits) -> int:
        """Nucleus sampling: of the likeliest tokens the fewest whose probabilities reach top_p (Holtzman et al. 2020).

        arXiv:1904.09751, section 3.1.
        """
        scaled = (logits - logits.max()).astype(np.float64) / self._sampling.temperature
        weights = np.exp(scaled)
        weights /= weights.sum()
        if self._sampling.top_p >= 1.0:
            return int(self._dice.choice(len(weights), p=weights))
        order = np.argsort(-weights, kind="stable")
        reached = np.cumsum(weights[order])
        kept = order[: int(np.searchsorted(reached, self._sampling.top_p)) + 1]
        return int(self._dice.choice(kept, p=weights[kept] / weights[kept].sum()))
