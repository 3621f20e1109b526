"""Which runtime settings to try and which to keep (pure): one change at a time, then those that helped together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tasks.kinds.catalogue import Catalogue
from tasks.records.speed import Paired

Settings = dict[str, str]  # only what differs from a runtime's own defaults

PROMISING = 0.03  # gain of a single change, over both phases, that is worth a closer look
WORTH = 0.02  # gain of the whole that is worth to be no default any more


def single_changes(choices: Mapping[str, Sequence[str]]) -> list[Settings]:
    """Every value but the first of each setting, alone; the first is the default.

    >>> single_changes({"threads": ("2", "1"), "flash": ("off", "on")})
    [{'threads': '1'}, {'flash': 'on'}]
    """
    return [{name: value} for name, values in choices.items() for value in values[1:]]


def gain(speedups: Mapping[str, float]) -> float:
    """All phases as one factor: their geometric mean.

    >>> round(gain({"decode_tokens_per_s": 1.21, "prefill_tokens_per_s": 1.0}), 6)
    1.1
    """
    return math.exp(sum(math.log(value) for value in speedups.values()) / len(speedups))


def combination(tried: Sequence[tuple[Settings, Mapping[str, float]]]) -> Settings:
    """The best promising value of each setting, all together; empty when none is.

    >>> fast, slow = {"decode_tokens_per_s": 1.2, "prefill_tokens_per_s": 1.1}, {"decode_tokens_per_s": 1.0,
    ...     "prefill_tokens_per_s": 1.01}
    >>> combination([({"flash": "on"}, fast), ({"batch": "128"}, slow)])
    {'flash': 'on'}
    """
    best: dict[str, tuple[float, str]] = {}
    for settings, speedups in tried:
        (name, value) = next(iter(settings.items()))
        found = gain(speedups)
        if found > 1 + PROMISING and found > best.get(name, (0.0, ""))[0]:
            best[name] = (found, value)
    return {name: value for name, (_, value) in best.items()}


def not_worth_it(known: Catalogue, speedups: Mapping[str, Paired]) -> str:
    """Say why a combination is not even worth more timing; empty when it may be."""
    if not all(phase in speedups for phase in known.deciding):
        return "too few timings count"
    whole = gain({phase: speedups[phase].value for phase in known.deciding})
    if whole <= 1 + WORTH:
        return f"timed again it gains {whole - 1:+.1%} over both phases, which is not worth a change"
    return ""


def verdict(known: Catalogue, speedups: Mapping[str, Paired]) -> str:
    """Say why a combination is not kept; empty when better as a whole, surely so in a phase, worse in none."""
    problem = not_worth_it(known, speedups)
    if problem:
        return problem
    slower = [phase for phase in known.deciding if speedups[phase].high < 1]
    if slower:
        return f"{known[slower[0]].title} is slower with it"
    if all(speedups[phase].low <= 1 for phase in known.deciding):
        return "its gain does not stand out of the noise"
    return ""
