"""A running server asked for text, beside the package opened directly: the same tokens in, greedy, texts compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tasks.backends.base import Engine
from tasks.backends.sampling import Sampling
from tasks.backends.table import tokens
from tasks.errors import UnsupportedError
from tasks.hardware import cores
from tasks.records.bundles import Compared
from tasks.targets.base import Shipped

NEW_TOKENS = 24
STEPS = 10_000  # more than any prompt and answer take: a guard against an engine that makes none


class Answering(Protocol):
    """What is asked: a container, or a server of any other kind."""

    def ask(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and JSON."""
        ...


def compared(engine: str, shipped: Shipped, server: Answering, prompts: Sequence[Sequence[int]]) -> Compared:
    """Whether a server's texts are those of the package opened here by the same engine."""
    if not prompts:
        return Compared(engine=engine, state="not-measured", reason="there are no texts to compare answers on")
    theirs = [answer(server, shipped.name, ids) for ids in prompts]
    mine = direct(shipped, prompts)
    apart = [number for number, (one, other) in enumerate(zip(mine, theirs, strict=True)) if one != other]
    if apart:
        first = f"{theirs[apart[0]]!r}, not {mine[apart[0]]!r}"
        reason = f"{len(apart)} of {len(mine)} texts differ from the package's: {first}"
    else:
        reason = f"{len(mine)} texts of {NEW_TOKENS} tokens equal the package's, letter by letter"
    return Compared(
        engine=engine, state="failed" if apart else "ok", reason=reason, answers=len(mine),
        difference=float(len(apart)), unit="texts",
    )  # fmt: skip


def answer(server: Answering, name: str, ids: Sequence[int]) -> str:
    """The server's greedy text after these tokens; raises UnsupportedError where it gives none."""
    body = {"model": name, "prompt": list(ids), "max_tokens": NEW_TOKENS, "temperature": 0, "ignore_eos": True}
    status, found = server.ask("/v1/completions", body)
    if status != 200:
        raise UnsupportedError(f"the server answered {status} when it was asked for text")
    return str(found["choices"][0]["text"])


def direct(shipped: Shipped, prompts: Sequence[Sequence[int]]) -> list[str]:
    """The package's own greedy texts, by the engine that a server opens it with, one prompt after the other."""
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(shipped.package / "tokenizer" / "tokenizer.json"))
    contents = shipped.contents
    context = max(map(len, prompts)) + NEW_TOKENS
    opened = tokens(contents.backend).engine(shipped.model, cores.usable_cores(), 1, context, contents.settings)
    try:
        return [words.decode(_written(opened, key, ids)) for key, ids in enumerate(prompts)]
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
