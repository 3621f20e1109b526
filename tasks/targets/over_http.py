"""A running server asked for text, beside the package opened directly: the same tokens in, greedy, texts compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from tasks.backends.base import Engine
from tasks.backends.sampling import Sampling
from tasks.backends.table import tokens
from tasks.errors import UnsupportedError
from tasks.hardware import cores
from tasks.records.bundles import Compared
from tasks.targets.answers import tokenizer_of
from tasks.targets.base import Shipped

NEW_TOKENS = 24
RIVALS = 5  # likeliest tokens that a text may part at
STEPS = 10_000  # more than any prompt and answer take: a guard against an engine that makes none


class Answering(Protocol):
    """What is asked: a container, or a server of any other kind."""

    def ask(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and JSON."""
        ...


def compared(
    engine: str, shipped: Shipped, server: Answering, prompts: Sequence[Sequence[int]], near: float = 0.0
) -> Compared:
    """Whether a server's texts are those of the package opened here by the same engine.

    `near`: where a text parts from the package's at two tokens that are so close (in nats) by the package itself, it
    counts as the same: kernels compiled for other instructions round otherwise. 0: each letter has to be the same.
    """
    if not prompts:
        return Compared(engine=engine, state="not-measured", reason="there are no texts to compare answers on")
    theirs = [answer(server, shipped.name, ids) for ids in prompts]
    mine = direct(shipped, prompts)
    words = tokenizer_of(shipped)
    other = [number for number, one in enumerate(theirs) if one != words.decode(mine[number])]
    gaps = [gap(shipped, prompts[number], mine[number], theirs[number]) for number in other] if near else []
    apart = [number for number, nats in zip(other, gaps or [math.inf] * len(other), strict=True) if nats > near]
    if apart:
        first = f"{theirs[apart[0]]!r}, not {words.decode(mine[apart[0]])!r}"
        reason = f"{len(apart)} of {len(mine)} texts differ from the package's: {first}"
    else:
        reason = f"{len(mine)} texts of {NEW_TOKENS} tokens equal the package's, letter by letter"
        if gaps:
            reason += f", but for {len(gaps)}, which part where two tokens are within {max(gaps):.2g} nats"
    return Compared(
        engine=engine, state="failed" if apart else "ok", reason=reason, answers=len(mine),
        difference=float(len(apart)), unit="texts",
    )  # fmt: skip


def gap(shipped: Shipped, prompt: Sequence[int], mine: Sequence[int], theirs: str) -> float:
    """By how many nats the package prefers its own token to the server's where texts part; infinite past rivals."""
    words = tokenizer_of(shipped)
    kept = next(k for k in range(len(mine), -1, -1) if k == 0 or theirs.startswith(words.decode(mine[:k])))
    if kept == len(mine):
        return math.inf
    opened = tokens(shipped.contents.backend).scorer(shipped.model, cores.usable_cores(), shipped.contents.settings)
    try:
        row = opened.score([*prompt, *mine[:kept]])[-1].astype(np.float64)
    finally:
        opened.close()
    rivals = [int(one) for one in np.argsort(row)[::-1][:RIVALS] if one != mine[kept]]
    said = [one for one in rivals if theirs.startswith(words.decode([*mine[:kept], one]))]
    return min((abs(float(row[mine[kept]] - row[one])) for one in said), default=math.inf)


def answer(server: Answering, name: str, ids: Sequence[int]) -> str:
    """The server's greedy text after these tokens; raises UnsupportedError where it gives none."""
    body = {"model": name, "prompt": list(ids), "max_tokens": NEW_TOKENS, "temperature": 0, "ignore_eos": True}
    status, found = server.ask("/v1/completions", body)
    if status != 200:
        raise UnsupportedError(f"the server answered {status} when it was asked for text")
    return str(found["choices"][0]["text"])


def direct(shipped: Shipped, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The package's own greedy tokens, by the engine that a server opens it with, one prompt after the other."""
    contents = shipped.contents
    context = max(map(len, prompts)) + NEW_TOKENS
    opened = tokens(contents.backend).engine(shipped.model, cores.usable_cores(), 1, context, contents.settings)
    try:
        return [_written(opened, key, ids) for key, ids in enumerate(prompts)]
    finally:
        opened.close()


def _written(engine: Engine, key: int, ids: Sequence[int]) -> list[int]:
    engine.add(key, ids, NEW_TOKENS, Sampling(temperature=0.0))
    made: list[int] = []
    for _ in range(STEPS):
        for one in engine.step():
            made.append(one.token)
            if one.last:
                engine.drop(key)
                return made
    raise UnsupportedError(f"the engine made {len(made)} tokens in {STEPS} steps, not {NEW_TOKENS}")
