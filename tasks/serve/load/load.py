"""Open-loop load: requests leave on a schedule of their own, whether or not earlier ones came back.

A closed loop waits for the server before it asks again and so hides how long the waiting was (coordinated omission,
Tene 2013, "How NOT to measure latency"). Latency here counts from when a request should have left.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tasks.measure.statistics import percentile
from tasks.records.load import LoadStep as Step

QUANTILE = 0.95


@dataclass(frozen=True)
class Ask:
    """A request of a load test: when it should leave, seconds from the step's beginning, and its prompt."""

    at: float
    prompt: str | Sequence[int]  # text, or token ids
    new_tokens: int


@dataclass
class Outcome:
    """Outcome of one request; seconds from when it should have left."""

    late: float = 0.0  # how long after that it left
    first: float | None = None
    gaps: list[float] = field(default_factory=list)  # between its pieces, which hold a token or more
    whole: float | None = None
    tokens: int = 0
    error: str = ""


def schedule(
    rate: float, seconds: float, prompts: Sequence[Sequence[int]], new_tokens: Sequence[int], seed: int
) -> list[Ask]:
    """Poisson arrivals: gaps are exponential with mean 1/rate; prompts and lengths of answers are drawn at random.

    >>> [round(ask.at, 2) for ask in schedule(2.0, 2.0, [[1]], [8], seed=1)]
    [0.07, 1.01, 1.16, 1.52]
    """
    dice = random.Random(seed)  # noqa: S311 - a load, not a secret
    asks, at = [], 0.0
    while (at := at + dice.expovariate(rate)) < seconds:
        asks.append(Ask(at, dice.choice(prompts), dice.choice(new_tokens)))
    return asks


async def run(base: str, model: str, asks: Sequence[Ask], key: str | None = None) -> tuple[list[Outcome], float]:
    """Send them when they are due; returns their outcomes and the seconds that all took."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(base, connector=connector, headers=headers) as session:
        began = time.perf_counter()
        tasks = [asyncio.create_task(_one(session, model, ask, began)) for ask in asks]
        outcomes = list(await asyncio.gather(*tasks))
        return outcomes, time.perf_counter() - began


async def _one(session: aiohttp.ClientSession, model: str, ask: Ask, began: float) -> Outcome:
    await asyncio.sleep(max(0.0, began + ask.at - time.perf_counter()))
    due, outcome = began + ask.at, Outcome()
    outcome.late = time.perf_counter() - due
    prompt = ask.prompt if isinstance(ask.prompt, str) else list(ask.prompt)
    body: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "max_tokens": ask.new_tokens,
        "temperature": 0,
        "stream": True,
    }
    # Equal work and its tokens counted, where a server knows these words; elsewhere a piece is a token.
    body |= {"ignore_eos": True, "stream_options": {"include_usage": True}}
    try:
        async with session.post("/v1/completions", json=body) as response:
            if response.status != 200:
                outcome.error = str(response.status)
                return outcome
            last = due
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                now = time.perf_counter()
                if line.startswith(b'data: {"error"'):
                    outcome.error = "event"
                    return outcome
                if b'"usage"' in line and (usage := json.loads(line[6:]).get("usage")):
                    outcome.tokens = usage.get("completion_tokens", outcome.tokens)
                    continue
                outcome.tokens += 1
                if outcome.first is None:
                    outcome.first = now - due
                else:
                    outcome.gaps.append(now - last)
                last = now
            outcome.whole = time.perf_counter() - due
    except (TimeoutError, aiohttp.ClientError, json.JSONDecodeError) as error:
        outcome.error = type(error).__name__
    return outcome


def summarise(rate: float, planned_s: float, outcomes: Sequence[Outcome], seconds: float) -> Step:
    """Figures of one step that was to last `planned_s` and took `seconds` until all were back."""
    well = [one for one in outcomes if not one.error and one.first is not None]
    errors: dict[str, int] = {}
    for one in outcomes:
        if one.error or one.first is None:
            errors[one.error or "empty"] = errors.get(one.error or "empty", 0) + 1
    gaps = [gap for one in well for gap in one.gaps]
    first = [one.first for one in well if one.first is not None]
    return Step(
        rate=rate,
        planned_s=planned_s,
        seconds=seconds,
        requests=len(outcomes),
        errors=errors,
        achieved=len(well) / seconds if seconds else 0.0,
        tokens_per_s=sum(one.tokens for one in well) / seconds if seconds else 0.0,
        first_ms_p50=_ms(first, 0.5),
        first_ms_p95=_ms(first, QUANTILE),
        between_ms_p50=_ms(gaps, 0.5),
        between_ms_p95=_ms(gaps, QUANTILE),
        whole_ms_p95=_ms([one.whole for one in well if one.whole is not None], QUANTILE),
        late_ms_p95=_ms([one.late for one in outcomes], QUANTILE),
    )


def _ms(seconds: Sequence[float], quantile: float) -> float | None:
    found = percentile(seconds, quantile) if seconds else None
    return None if found is None else 1e3 * found


@dataclass(frozen=True)
class Objectives:
    """Limits that a server is to keep: 95th percentiles in milliseconds, and the share of requests that may fail."""

    first_ms: float
    between_ms: float
    errors: float = 0.01

    def kept(self, step: Step) -> bool | None:
        """Tell whether a step keeps the objectives; None where it had too few requests to tell."""
        if step.error_rate > self.errors:
            return False
        if step.first_ms_p95 is None or step.between_ms_p95 is None:
            return None
        return step.first_ms_p95 <= self.first_ms and step.between_ms_p95 <= self.between_ms


SATURATED = 0.85  # of the requests per second that left, when fewer than this share come back in time


def saturated(step: Step) -> bool:
    """Tell whether the server no longer keeps up: work was left when the last request of the step had left."""
    return step.seconds > step.planned_s / SATURATED or step.error_rate > 0.5


def within(step: Step, objectives: Objectives) -> bool:
    """Tell whether a step is known to keep the objectives and the server kept up."""
    return objectives.kept(step) is True and not saturated(step)


def next_rate(steps: Sequence[Step], objectives: Objectives, factor: float, closest: float) -> float | None:
    """The rate to try next: up by `factor` to the first that is not kept, then halving between; None at the end."""
    kept = [step.rate for step in steps if within(step, objectives)]
    missed = [step.rate for step in steps if not within(step, objectives)]
    if not missed:
        return steps[-1].rate * factor
    low, high = max((rate for rate in kept if rate < min(missed)), default=0.0), min(missed)
    if not low:
        return high / factor**2 if len(steps) < 8 else None
    return None if high / low <= closest else (low * high) ** 0.5
