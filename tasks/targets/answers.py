"""Answers of a bundle's files beside those of the package: the same tokens in, logits compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tasks.backends.base import Logits
from tasks.backends.table import tokens
from tasks.errors import EdgewrightError
from tasks.hardware import cores
from tasks.records.bundles import Compared
from tasks.targets.base import Shipped

TOKENS = 48  # of each probe
# By so much, in nats (or logits of one row), two tokens may be apart and change places where a kernel rounds otherwise:
# in a batch, or compiled for other instructions. Twice the step of bfloat16 at 16 to 32.
TIE = 0.25
Rows = list[Logits]


def logits(engine: str, shipped: Shipped, model: Path, backend: str, limit: float = 0.0) -> Compared:
    """Open the package's model and the bundle's by one backend and compare all logits of the probes.

    `limit` is the largest difference that counts as the same; 0: not a bit may differ.
    """
    rows = encoded(shipped)
    if not rows:
        return Compared(engine=engine, state="not-measured", reason="there are no texts to compare answers on")
    found: list[Rows] = []
    for place in (shipped.model, model):
        try:
            session = tokens(backend).scorer(place, cores.usable_cores(), None)
        except (EdgewrightError, OSError, ValueError, RuntimeError) as error:
            return Compared(engine=engine, state="failed", reason=f"it does not open: {type(error).__name__}: {error}")
        try:
            found.append([session.score(ids) for ids in rows])
        finally:
            session.close()
    return judged(engine, found[0], found[1], limit)


def judged(engine: str, package: Rows, bundle: Rows, limit: float = 0.0) -> Compared:
    """Whether two lists of logits are the same within a limit."""
    apart = max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in zip(package, bundle, strict=True))
    count = sum(len(one) for one in package)
    same = apart <= limit
    bound = "to the bit" if limit == 0 else f"within {limit:g}"
    words = (
        f"logits of {count} positions equal the package's {bound}"
        if same
        else (f"logits differ from the package's by up to {apart:.4g}")
    )
    return Compared(
        engine=engine, state="ok" if same else "failed", reason=words, answers=count, difference=apart, unit="logit"
    )  # fmt: skip


def encoded(shipped: Shipped) -> list[list[int]]:
    """The probes as token ids."""
    rows = [tokenizer_of(shipped).encode(text).ids[:TOKENS] for text in shipped.probes]
    return [ids for ids in rows if len(ids) > 1]


def tokenizer_of(shipped: Shipped) -> Any:
    """The package's own tokenizer."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(shipped.package / "tokenizer" / "tokenizer.json"))
