"""What versions are asked to be compared by: for each form that a kind of model serves, questions of our own, and how
alike two answers to the same request are.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import EdgewrightError
from tasks.kinds.base import Form
from tasks.kinds.causal_lm.answers import similarity
from tasks.kinds.table import predicting
from tasks.packaging.manifest import CONTENTS, Contents
from tasks.promotion.evidence import texts_of

WRITING = ("/v1/completions", "/v1/chat/completions")
EMBEDDINGS, CLASSIFY = "/v1/embeddings", "/v1/classify"
INFER = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/infer")
SIDE = 64  # pixels of a picture of our own
QUESTIONS = (
    "What is the capital of France?",
    "A farmer has 12 sheep and buys 5 more. How many sheep has the farmer?",
    "Name three things that float on water.",
    "Explain in one sentence why the sky is blue.",
    "Write a short greeting to a colleague who comes back from a journey.",
    "Tom reads 20 pages a day. How many pages does he read in a week?",
    "What is the opposite of cold?",
    "List the first five even numbers.",
)
Question = tuple[str, dict[str, Any]]  # path, and a request's body


@cache
def form_of(package: str) -> Form:
    """What a package's server reads first; prompts to write after where the package does not tell its kind."""
    try:
        return predicting(Contents.read(Path(package) / CONTENTS).kind).SERVES[0]
    except (OSError, ValueError, EdgewrightError):
        return "generation"


def question(form: Form, number: int) -> Question | None:
    """The request of that number; None for tensors, whose shapes only callers know how to fill."""
    text = QUESTIONS[number % len(QUESTIONS)]
    if form == "generation":
        return WRITING[1], {"messages": [{"role": "user", "content": text}]}
    if form == "texts":
        return EMBEDDINGS, {"input": text}
    if form == "pictures":
        return CLASSIFY, {"images": [base64.b64encode(picture(number)).decode()]}
    return None


def picture(number: int) -> bytes:
    """A PNG of coloured blocks, another for each number."""
    from PIL import Image

    blocks = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    made = io.BytesIO()
    Image.fromarray(blocks).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(made, "PNG")
    return made.getvalue()


def likeness(path: str) -> Callable[[bytes, bytes], float | None] | None:
    """How alike two answers under a path are, 0 to 1 (None: they cannot be read); None where answers are not compared.

    Texts by their words, vectors and tensors by the cosine between them, pictures by the share of the same classes.
    """
    if path in WRITING:
        return lambda ours, theirs: similarity(texts_of(ours), texts_of(theirs))
    if path == EMBEDDINGS:
        return lambda ours, theirs: _cosine(_vectors(ours), _vectors(theirs))
    if path == CLASSIFY:
        return lambda ours, theirs: _same(_classes(ours), _classes(theirs))
    if INFER.fullmatch(path):
        return lambda ours, theirs: _tensors(ours, theirs)
    return None


def _cosine(ours: list[Any] | None, theirs: list[Any] | None) -> float | None:
    """Mean over rows, a negative one as 0; 0 for other sizes.

    >>> _cosine([[1.0, 0.0]], [[2.0, 0.0]]), _cosine([[1.0, 0.0]], [[0.0, 1.0]]), _cosine([[1.0]], [[1.0, 2.0]])
    (1.0, 0.0, 0.0)
    """
    if ours is None or theirs is None:
        return None
    if not ours or [len(one) for one in ours] != [len(one) for one in theirs]:
        return 0.0
    found = []
    for one, other in zip(ours, theirs, strict=True):
        a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
        norms = float(np.linalg.norm(a) * np.linalg.norm(b))
        found.append(max(0.0, float(a @ b) / norms) if norms else float(np.array_equal(a, b)))
    return float(np.clip(np.mean(found), 0.0, 1.0))


def _same(ours: list[Any] | None, theirs: list[Any] | None) -> float | None:
    if ours is None or theirs is None:
        return None
    if not ours or len(ours) != len(theirs):
        return 0.0
    return float(np.mean([one == other for one, other in zip(ours, theirs, strict=True)]))


def _vectors(body: bytes) -> list[Any] | None:
    def vector(value: Any) -> Any:
        return np.frombuffer(base64.b64decode(value), np.float32) if isinstance(value, str) else value

    found: list[Any] | None = _read(body, lambda told: [vector(one["embedding"]) for one in told["data"]])
    return found


def _classes(body: bytes) -> list[Any] | None:
    found: list[Any] | None = _read(body, lambda told: [one["classes"][0]["class"] for one in told["data"]])
    return found


def _tensors(ours: bytes, theirs: bytes) -> float | None:
    """Outputs of the Open Inference Protocol in JSON: numbers by their cosine, texts by their words."""
    mine, other = (
        _read(body, lambda told: {one["name"]: one["data"] for one in told["outputs"]}) for body in (ours, theirs)
    )
    if mine is None or other is None:
        return None
    if mine.keys() != other.keys():
        return 0.0
    found = [_output(mine[name], other[name]) for name in mine]
    return float(np.mean(found)) if found else 0.0


def _output(ours: list[Any], theirs: list[Any]) -> float:
    if any(isinstance(one, str) for one in (*ours, *theirs)):
        return similarity("\n".join(map(str, ours)), "\n".join(map(str, theirs)))
    return _cosine([np.ravel(ours)], [np.ravel(theirs)]) or 0.0


def _read(body: bytes, part: Callable[[Mapping[str, Any]], Any]) -> Any:
    try:
        return part(json.loads(body))
    except (ValueError, KeyError, TypeError, IndexError):
        return None
