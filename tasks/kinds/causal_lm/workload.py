"""Requests to a language model while it is timed, soaked and weighed: prompts in, tokens out."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from pathlib import Path

from tasks.backends.base import TokenSpeaker
from tasks.backends.table import tokens
from tasks.kinds.causal_lm import files
from tasks.kinds.causal_lm.rows import Prompts
from tasks.measure.requests import Opening
from tasks.measure.workload import Workload
from tasks.params.pipeline import Benchmark

WARM_UP_TOKENS = 4
HEAVY_TOKENS = 16
AFTER_LONGEST = 16  # new tokens after the longest prompt
BATCH, BATCH_TOKENS = 4, 16  # prompts at once, and new tokens of each
REPEATED, COPIED = 24, 32  # tokens that a long prompt is begun again by, and new ones that are timed after them
SOAK_PROMPTS = 4  # distinct ones of a soak
SOAK_TOKENS = 12  # new tokens of each request of a soak
STRESS_TOKENS = 16  # of each request under stress


def workload(opening: Opening, data: Path, settings: Benchmark, brief: bool) -> Workload:
    """Load an artifact as it is served, with the prompts that are timed; `brief`: without longest and batch."""
    prompts = Prompts.read(data / files.PROMPTS)
    return TokensWorkload(
        session=tokens(opening.backend).speaker(opening.artifact, opening.threads, opening.settings),
        prompts=prompts,
        repeats=settings.repeats,
        decode_repeats=settings.decode_repeats,
        new_tokens=settings.new_tokens,
        stress_tokens=min(settings.stress_tokens, prompts.most or settings.stress_tokens),
        brief=brief,
    )


@dataclass
class TokensWorkload:
    """A language model's requests.

    Every prompt is timed once, so that no cache of an earlier one helps. Time to first token: prompt in, one token
    out. Prefill: prompt tokens over that time for the long prompts, and for one that is longer still. Decode: tokens
    after the first over the time between first and last, after a short prompt and after the longest. Batch: new tokens
    of some prompts at once over the whole time, reading them included. Lookup: tokens after the first where a prompt
    begins again, with guesses looked up in it, and that over the same without.
    """

    session: TokenSpeaker
    prompts: Prompts
    repeats: int = 2  # prompts for time to first token and for prefill
    decode_repeats: int = 1
    new_tokens: int = 32
    stress_tokens: int = 0  # of the longest prompt under stress
    brief: bool = False  # nothing is timed after the longest prompt, and no batch

    @property
    def distinct(self) -> int:
        """Requests of a soak that differ."""
        return min(SOAK_PROMPTS, len(self.prompts.short))

    def first(self) -> None:
        """Ask once, as the first caller does."""
        self.session.generate(self.prompts.short[-1], WARM_UP_TOKENS)

    def samples(self) -> dict[str, list[float]]:
        """Time first tokens, prefill, decode, what comes after a long prompt, and a batch."""
        short, long, gaps = self.prompts.short, self.prompts.long, list[float]()
        timed = {
            "time_to_first_token_ms": [1e3 * self._seconds(ids) for ids in short[: self.repeats]],
            "prefill_tokens_per_s": [len(ids) / self._seconds(ids) for ids in long[: self.repeats]],
            "decode_tokens_per_s": [
                self._decode(ids, gaps) for ids in short[self.repeats : self.repeats + self.decode_repeats]
            ],
        }
        if not self.brief:
            timed |= self._after_longest() | self._batch(short[self.repeats : -1]) | self._copying()
        return {**timed, "inter_token_ms": gaps}

    def heavy(self) -> None:
        """Answer a long prompt."""
        self.session.generate(self.prompts.long[0], HEAVY_TOKENS)

    def soak(self, number: int) -> int:
        """Answer one of few short prompts; how many tokens were written."""
        return len(self.session.generate(self.prompts.short[number % self.distinct], SOAK_TOKENS))

    def longest(self) -> bool:
        """Answer a prompt of `stress_tokens` tokens, put together from the long ones."""
        stream = cycle(token for ids in self.prompts.long for token in ids)
        ids = [token for token, _ in zip(stream, range(self.stress_tokens), strict=False)]
        return len(self.session.generate(ids, STRESS_TOKENS)) == STRESS_TOKENS

    def stress(self, number: int) -> Hashable:
        """Answer a short prompt; its tokens."""
        return tuple(self.session.generate(self.prompts.short[number % len(self.prompts.short)], STRESS_TOKENS))

    def sizes(self) -> dict[str, int]:
        """Tell the lengths of prompts and answers that are timed, tokens."""
        short, long = len(self.prompts.short[0]), len(self.prompts.long[0])
        return {"prompt_tokens_short": short, "prompt_tokens_long": long, "new_tokens": self.new_tokens}

    def runtime(self) -> dict[str, str]:
        """Tell the properties that the runtime really uses."""
        return self.session.runtime()

    def _after_longest(self) -> dict[str, list[float]]:
        """Read a longer prompt and write after it; nothing where the data gives no such prompt."""
        if not self.prompts.longest:
            return {}
        ids, stamps = self.prompts.longest[0], [time.perf_counter()]
        self.session.generate(ids, AFTER_LONGEST, lambda _: stamps.append(time.perf_counter()))
        return {
            "prefill_longest_tokens_per_s": [len(ids) / (stamps[1] - stamps[0])],
            "decode_long_tokens_per_s": [(len(stamps) - 2) / (stamps[-1] - stamps[1])],
        }

    def _batch(self, prompts: Sequence[Sequence[int]]) -> dict[str, list[float]]:
        """Answer some prompts of one length at once; nothing where the data gives too few."""
        if len(prompts) < BATCH:
            return {}
        began = time.perf_counter()
        self.session.generate_batch(prompts[-BATCH:], BATCH_TOKENS)
        return {"batch_tokens_per_s": [BATCH * BATCH_TOKENS / (time.perf_counter() - began)]}

    def _copying(self) -> dict[str, list[float]]:
        """Write on where a prompt begins again, by guesses that are looked up and without, where a runtime can."""
        work = getattr(self.session, "generate_by_lookup", None)
        if work is None:
            return {}
        ids = [*self.prompts.long[0], *self.prompts.long[0][:REPEATED]]
        plain, guessed = (self._rate(ids, one) for one in (self.session.generate, work))
        return {"lookup_tokens_per_s": [guessed], "lookup_gain": [guessed / plain]}

    def _rate(self, ids: Sequence[int], generate: Callable[..., list[int]]) -> float:
        stamps: list[float] = []
        generate(ids, COPIED, lambda _: stamps.append(time.perf_counter()))
        return (len(stamps) - 1) / max(stamps[-1] - stamps[0], 1e-9)

    def _seconds(self, ids: Sequence[int]) -> float:
        began = time.perf_counter()
        self.session.prefill(ids)
        return time.perf_counter() - began

    def _decode(self, ids: Sequence[int], gaps_ms: list[float]) -> float:
        """Tokens per second after the first; the times between tokens are added to `gaps_ms`."""
        stamps: list[float] = []
        self.session.generate(ids, self.new_tokens, lambda _: stamps.append(time.perf_counter()))
        gaps_ms += [1e3 * (later - earlier) for earlier, later in pairwise(stamps)]
        return (len(stamps) - 1) / (stamps[-1] - stamps[0])
