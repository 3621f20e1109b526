"""Greedy answers of a package by the engine that its gates judged: what a server's answers are compared with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tasks.backends.openvino import device as openvino_device
from tasks.backends.sampling import Sampling
from tasks.backends.table import tokens
from tasks.hardware import cores
from tasks.kinds.causal_lm.predicting import until
from tasks.packaging.manifest import Contents
from tasks.targets.answers import TIE, tokenizer_of
from tasks.targets.base import Shipped

PROMPT = 32  # tokens of a probe that are given
NEW = 16  # tokens that are asked for
CONFIGS = ("generation_config.json", "genai_config.json", "config.json")  # any of which may name the ends
GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True)
class Answer:
    """What the package said: the text that was asked, the tokens up to the end of the text, and these as text."""

    prompt: str
    tokens: tuple[int, ...]
    text: str


def prompts(shipped: Shipped) -> list[str]:
    """The beginnings of the probes."""
    tokenizer = tokenizer_of(shipped)
    cut = [tokenizer.decode(tokenizer.encode(text).ids[:PROMPT]).strip() for text in shipped.probes]
    return [text for text in cut if text]


def answers(shipped: Shipped, texts: Sequence[str], context: int, new: int = NEW) -> list[Answer]:
    """One after the other; raises what the backend raises for a model that does not open."""
    tokenizer, backend = tokenizer_of(shipped), tokens(shipped.contents.backend)
    ends, settings = end_tokens(shipped.model), dict(shipped.contents.settings)
    engine = backend.engine(shipped.model, cores.usable_cores(), 1, context, settings)
    found = []
    try:
        for key, text in enumerate(texts):
            engine.add(key, tokenizer.encode(text).ids, new, GREEDY)
            made = list[int]()
            while len(made) < new:
                made += [one.token for one in engine.step()]
            kept = until(made, ends)
            found.append(Answer(text, tuple(kept), tokenizer.decode(kept)))
    finally:
        engine.close()
    return found


class Told(NamedTuple):
    """What a comparison found: what is wrong, empty where nothing is; what is right; the largest gap in logits."""

    fault: str
    said: str
    difference: float


def judged(shipped: Shipped, pairs: Sequence[tuple[Answer, Sequence[int]]], together: range) -> Told:
    """Whether answers are the package's own; those at the places `together` came of a batch, and may differ at ties."""
    apart = gaps(shipped, pairs)
    changed = [at for at, (one, made) in enumerate(pairs) if tuple(made) != one.tokens]
    beyond = [pairs[at][0].prompt for at in changed if apart[at] > TIE or at not in together]
    ties = f"; {len(changed)} of a batch differ where two tokens are within {TIE} logit" if changed else ""
    said = f"tokens of {len(pairs) - len(changed)} of {len(pairs)} answers equal the package's{ties}"
    fault = f"{len(beyond)} of {len(pairs)} answers differ, as after {beyond[0]!r}" if beyond else ""
    return Told(fault, said, max(apart))


def gaps(shipped: Shipped, pairs: Sequence[tuple[Answer, Sequence[int]]]) -> list[float]:
    """For answers that differ, how far apart the package's own logits are where they first do; 0 where none does.

    A batch rounds otherwise than a single row: two tokens that are all but equally likely may then change places.
    """
    apart = {at for at, (one, made) in enumerate(pairs) if tuple(made) != one.tokens}
    if not apart:
        return [0.0] * len(pairs)
    tokenizer, ends = tokenizer_of(shipped), end_tokens(shipped.model)
    settings = dict(shipped.contents.settings)
    session = tokens(shipped.contents.backend).scorer(shipped.model, cores.usable_cores(), settings)
    try:
        found = [0.0] * len(pairs)
        for at in apart:
            one, made = pairs[at]
            same = first_difference(one.tokens, made)
            row = session.score([*tokenizer.encode(one.prompt).ids, *one.tokens[:same]])[-1]
            mine, other = (max(float(row[token]) for token in list(said[same : same + 1]) or ends)
                           for said in (one.tokens, made))  # fmt: skip
            found[at] = abs(mine - other)
        return found
    finally:
        session.close()


def first_difference(expected: Sequence[int], made: Sequence[int]) -> int:
    """Where two answers first differ.

    >>> first_difference([1, 2, 3], [1, 5, 3]), first_difference([1, 2], [1, 2])
    (1, 2)
    """
    both = enumerate(zip(expected, made, strict=False))
    return next((at for at, pair in both if pair[0] != pair[1]), min(len(expected), len(made)))


def end_tokens(model: Path) -> list[int]:
    """The tokens that end a text, as the first of the model's configurations that names any says."""
    for name in CONFIGS:
        file = model / name
        raw: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        told = raw.get("eos_token_id", raw.get("model", {}).get("eos_token_id"))
        if told is not None:
            return sorted(told) if isinstance(told, list) else [told]
    return []


def properties(contents: Contents) -> dict[str, str]:
    """What the runtime was asked for when it was measured."""
    if contents.backend == "openvino":
        return openvino_device.asked(1, contents.settings).properties
    return {name: value for name, value in contents.settings.items() if name.startswith("session.")}
