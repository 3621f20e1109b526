"""What a request asks for, and how it went: what the prediction log writes a line of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tasks.backends.sampling import Sampling
from tasks.serve.log.sketch import suspicious
from tasks.sources.text import mended


@dataclass(frozen=True)
class GenerationRequest:
    """A request for one answer."""

    ids: Sequence[int]
    new_tokens: int
    sampling: Sampling
    stop: tuple[str, ...] = ()
    ends: bool = True  # whether an end-of-text token ends the answer
    echo: bool = False  # the prompt comes before the answer
    scored: int | None = None  # how many of the likeliest tokens are told of each of the prompt's; None: none is scored
    endpoint: str = ""
    request_id: str = ""
    prompt: str = ""  # as it was asked, for a log that keeps texts
    client: str = ""  # who asked, as a digest

    def __post_init__(self) -> None:
        """Keep of the prompt what can be written: a caller may send half of a character."""
        object.__setattr__(self, "prompt", mended(self.prompt)[0])

    @cached_property
    def suspicious(self) -> bool:
        """Tell whether the prompt looks like an attempt at prompt injection."""
        return suspicious(self.prompt)


@dataclass
class RequestTrace:
    """Course of one request so far; times in seconds of the monotonic clock."""

    arrived: float
    begun: float | None = None
    first: float | None = None
    last: float | None = None
    logprobs: list[float] = field(default_factory=list)
    tokens: int = 0
    finish: str = ""
    text: list[str] = field(default_factory=list)

    def took(self, when: float, logprob: float | None) -> float | None:
        """Note a token; returns the seconds since the one before it, None for the first."""
        gap = None if self.last is None else when - self.last
        self.first = when if self.first is None else self.first
        self.last = when
        self.tokens += 1
        if logprob is not None:
            self.logprobs.append(logprob)
        return gap

    @property
    def confidence(self) -> float | None:
        """The geometric mean of the tokens' probabilities."""
        return math.exp(sum(self.logprobs) / len(self.logprobs)) if self.logprobs else None
