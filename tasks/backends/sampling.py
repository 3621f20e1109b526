"""Choosing the next token from logits: greedy or drawn, shaped as the caller asked, with a seed per request. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
COLDEST = 1e-6  # temperature; below it a division may not be finite, and the likeliest token is drawn anyway


class Guide(Protocol):
    """Holds one answer to a form, a token at a time."""

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next, shape (at most vocabulary,); those that it does not reach may not."""
        ...

    def took(self, token: int) -> None:
        """Go on with the token that was chosen."""
        ...


@dataclass(frozen=True)
class Sampling:
    """Settings by which a continuation is drawn; temperature 0 takes the likeliest token each time.

    Shaped in this order: bias, penalties, form, temperature, top_k, top_p, min_p. Penalties are those of OpenAI's API
    (presence, frequency: of what was generated, taken off the logits) and of Keskar et al. 2019, arXiv:1909.05858,
    section 4.1 (repetition: of prompt and answer, dividing what is positive and multiplying what is not).
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    top_k: int = 0  # 0: any number
    min_p: float = 0.0  # as a share of the likeliest one's probability
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()  # token and what is added to its logit
    top: int = 0  # how many of the likeliest tokens are told beside each one that was chosen
    grammar: str = ""  # of the answer, for llguidance; whoever runs the engine makes the guide of it
    guide: Guide | None = field(default=None, compare=False, repr=False)

    @property
    def greedy(self) -> bool:
        """Tell whether nothing is drawn."""
        return self.temperature <= 0.0

    def told(self) -> dict[str, Any]:
        """As it is told to another process, only what differs from the defaults; a guide is not."""
        return {
            one.name: value for one in fields(self) if one.compare and (value := getattr(self, one.name)) != one.default
        }

    @staticmethod
    def read(told: Mapping[str, Any]) -> Sampling:
        """What was `told`.

        >>> Sampling.read(Sampling(top_k=3, bias=((5, 1.0),)).told()) == Sampling(top_k=3, bias=((5, 1.0),))
        True
        """
        bias = tuple((int(token), float(added)) for token, added in told.get("bias", ()))
        return Sampling(**{**told, "bias": bias})

    @property
    def penalized(self) -> bool:
        """Tell whether tokens count that were there before."""
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0


class Drawn(NamedTuple):
    """A chosen token, its log-probability, nats, under the model itself (temperature 1), and the likeliest ones'."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


Stream = Iterator[Drawn]  # the tokens of one request


class Sampler:
    """One request's draws: the same seed and logits give the same tokens, whatever else is generated beside it."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int] = ()) -> None:
        """Seed the dice; without a seed they differ each time. `prompt` counts for a repetition penalty."""
        self._sampling = sampling
        self._dice = np.random.default_rng(sampling.seed)
        self._room: Logits = np.empty(0, dtype=np.float32)  # for the sums; a vocabulary's worth, used again each time
        self._seen = set(prompt) if sampling.repetition_penalty != 1.0 else set()
        self._made: dict[int, int] = {}  # token -> how often it was generated
        self._shapes = bool(sampling.bias or sampling.penalized or sampling.guide)

    def next(self, logits: Logits) -> Drawn:
        """The next token; logits (vocabulary,) of the model itself, which are not changed.

        >>> Sampler(Sampling()).next(np.log(np.array([0.25, 0.75], dtype=np.float32))).token
        1
        """
        best = int(logits.argmax())
        shaped = self._shaped(logits) if self._shapes else logits
        token = best
        if self._shapes or not self._sampling.greedy:
            token = int(shaped.argmax()) if self._sampling.greedy else self._drawn(shaped)
            self._note(token)
        if len(self._room) != len(logits):
            self._room = np.empty_like(logits)
        top = logits[best]
        np.subtract(logits, top, out=self._room)
        np.exp(self._room, out=self._room)
        whole = float(top) + math.log(float(self._room.sum()))
        return Drawn(token, float(logits[token]) - whole, likeliest(logits, whole, self._sampling.top))

    def _shaped(self, logits: Logits) -> Logits:
        asked, shaped = self._sampling, logits.copy()
        for token, added in asked.bias:
            if token < len(shaped):
                shaped[token] += added
        if asked.repetition_penalty != 1.0 and (seen := [*self._seen, *self._made]):
            before = shaped[seen]
            shaped[seen] = np.where(before > 0, before / asked.repetition_penalty, before * asked.repetition_penalty)
        if self._made and (asked.presence_penalty or asked.frequency_penalty):
            counts = np.fromiter(self._made.values(), dtype=np.float32)
            shaped[list(self._made)] -= asked.presence_penalty + asked.frequency_penalty * counts
        if asked.guide is not None:
            allowed = asked.guide.allowed()[: len(shaped)]
            shaped[: len(allowed)][~allowed] = -np.inf
            shaped[len(allowed) :] = -np.inf
        return shaped

    def _note(self, token: int) -> None:
        self._made[token] = self._made.get(token, 0) + 1
        self._seen.discard(token)
        if self._sampling.guide is not None:
            self._sampling.guide.took(token)

    def _drawn(self, logits: Logits) -> int:
        """Draw among the likeliest `top_k`, of these the fewest whose probabilities reach `top_p`, of these `min_p`.

        Top-p: nucleus sampling, Holtzman et al. 2020, arXiv:1904.09751, section 3.1. Min-p: Nguyen et al. 2024,
        arXiv:2407.01082, section 3.
        """
        asked = self._sampling
        scaled = (logits - logits.max()).astype(np.float64) / max(asked.temperature, COLDEST)
        weights = np.exp(scaled)
        weights /= weights.sum()
        if asked.top_p >= 1.0 and not asked.top_k and not asked.min_p:
            return int(self._dice.choice(len(weights), p=weights))
        order = np.argsort(-weights, kind="stable")
        kept = order[: asked.top_k] if asked.top_k else order
        if asked.top_p < 1.0:
            reached = np.cumsum(weights[kept]) / weights[kept].sum()
            kept = kept[: int(np.searchsorted(reached, asked.top_p)) + 1]
        kept = kept[weights[kept] >= asked.min_p * weights[order[0]]]
        return int(self._dice.choice(kept, p=weights[kept] / weights[kept].sum()))


def likeliest(logits: Logits, whole: float, count: int) -> tuple[tuple[int, float], ...]:
    """The `count` likeliest tokens with their log-probabilities, the likeliest first; `whole`: log of the sum.

    >>> likeliest(np.log(np.array([0.2, 0.5, 0.3])), 0.0, 1)[0][0]
    1
    """
    count = min(count, len(logits))
    if not count:
        return ()
    found = np.argpartition(-logits, count - 1)[:count]
    return tuple(
        (int(token), float(logits[token]) - whole) for token in found[np.argsort(-logits[found], kind="stable")]
    )
