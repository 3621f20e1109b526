"""What a type of llama.cpp costs in writing: a file that is of it throughout takes turns with one in q8_0.

Writing reads each weight once for a token, so that its time adds up over weights: a rate per weight for each type.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

YARDSTICK = "q8_0"
TURNS, TOKENS = 5, 16  # what is timed of each file, after a turn that is not counted


def against(file: Path, yardstick: Path, threads: int) -> float:
    """Time of a token by one file as a share of that by another: the median over turns of each turn's ratio."""
    first, other = (_opened(one, threads) for one in (file, yardstick))
    try:
        ratios = [_seconds(first) / _seconds(other) for _ in range(TURNS + 1)][1:]
    finally:
        first.close()
        other.close()
    return statistics.median(ratios)


def rates(ratio: float, weights: Mapping[str, tuple[str, int]], known: Mapping[str, float]) -> dict[str, float]:
    """The rate of the type that most weights of a file have and that is not known yet, from the whole file's time.

    `weights` are type and number of weights by tensor; rates are shares of q8_0's. What other types the file has count
    with their own rates, or with this one's where these are not known; where they are most of the file, the noise of
    the whole would be laid on a few weights, so that the whole file's rate is taken.

    >>> rates(0.75, {"a": ("Q4_0", 50), "b": ("Q8_0", 50)}, {"Q8_0": 1.0})
    {'Q4_0': 0.5}
    """
    counted: Counter[str] = Counter()
    for kind, size in weights.values():
        counted[kind] += size
    new = [kind for kind, _ in counted.most_common() if kind not in known]
    if not new:
        return {}
    told = sum(size * known[kind] for kind, size in counted.items() if kind in known)
    left = sum(counted[kind] for kind in new)
    if left * 2 < counted.total():
        return dict.fromkeys(new, ratio)
    return dict.fromkeys(new, (ratio * counted.total() - told) / left)


def _opened(file: Path, threads: int) -> Any:
    import llama_cpp

    return llama_cpp.Llama(
        str(file), n_ctx=TOKENS * (TURNS + 2), n_threads=threads, n_threads_batch=threads, use_mmap=False, verbose=False
    )


def _seconds(llama: Any) -> float:
    began = time.perf_counter()
    for token in range(TOKENS):
        llama.eval([token + 1])
    return time.perf_counter() - began
