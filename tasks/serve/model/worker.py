"""The process that holds the model: requests in and tokens out as JSON lines, a step of the engine at a time.

It is a process of its own so that a runtime that dies takes no connection with it, and is started again. It verifies
the package before it loads anything of it, and ends when its standard input closes.

In: {"add": key, "ids": [...], "new_tokens": n, "ends": true, "sampling": {...}} begins an answer, {"score": key,
"ids": [...], "top": n} asks how likely a text is, {"drop": key} ends either.
Out, once: {"ready": {...}} or {"failed": reason}; then {"made": [[key, [token, logprob, finish, when, top]], ...]},
where finish is null, "stop" (an end-of-text token, which is not part of the answer) or "length", and when is in seconds
of a clock of its own; top has the likeliest tokens with their logprobs, where asked for. Of a text that is scored all
tokens come at once, the last with "scored". {"refused": [key, reason]} where a request cannot be begun.
Tokens that are made faster than anybody reads share a message (see `Pace`).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from tasks.backends.base import Engine, Settings, TokenScorer
from tasks.backends.devices import Opened, device_of, on, opened
from tasks.backends.placing import AUTO
from tasks.backends.sampling import Guide, Sampling, likeliest
from tasks.backends.table import tokens
from tasks.errors import EdgewrightError
from tasks.kinds.causal_lm.grammar import Grammars
from tasks.packaging.manifest import CONTENTS, Contents, verify_manifest
from tasks.records.base import Record

CLOSED: dict[str, Any] = {}  # what the reader says when there is nothing more to read


class Opening(Record):
    """Settings that a worker is started with."""

    package: str
    manifest_sha256: str | None
    threads: int
    slots: int
    context: int
    ends: tuple[int, ...]  # tokens that end a text
    pace_s: float  # between two messages, at least
    device: str = AUTO  # auto: as the package's settings say


def main(argv: list[str]) -> int:
    """Load, say so, serve."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what runtimes print belongs to the log
    opening = Opening.model_validate_json(argv[0])
    try:
        engine, beside, ready = _load(opening)
    except EdgewrightError as error:
        say(out, {"failed": str(error)})
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - a runtime may raise anything; the reason must reach the server
        say(out, {"failed": f"{type(error).__name__}: {error}"})
        return 1
    say(out, {"ready": ready})
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=read, args=(inbox,), daemon=True).start()
    serve(engine, frozenset(opening.ends), inbox, out, opening.pace_s, beside)
    out.flush()
    os._exit(0)  # runtimes may crash while they are torn down


def _load(opening: Opening) -> tuple[Engine, Beside, dict[str, Any]]:
    package = Path(opening.package)
    digest = verify_manifest(package, opening.manifest_sha256)
    contents = Contents.read(package / CONTENTS)
    # One slot more than is served: the health probe never waits for requests.
    backend, files = tokens(contents.backend), package / "model"
    wanted = on(contents.settings, opening.device)

    def open_with(settings: Settings) -> Engine:
        return backend.engine(files, opening.threads, opening.slots + 1, opening.context, settings)

    found = opened(wanted, open_with)
    beside = Beside(
        lambda: backend.scorer(files, opening.threads, found.settings),
        lambda: Grammars(package / "tokenizer", opening.ends),
    )
    return found.made, beside, {"manifest_sha256": digest, "pid": os.getpid(), **placed(found)}


def placed(found: Opened[Any]) -> dict[str, Any]:
    """What a worker says of the device that it opened its model on."""
    fell = found.fallback
    return {"device": device_of(found.settings), "fallback": fell.model_dump(mode="json") if fell else None}


class Token(NamedTuple):
    """One token of an answer, when it was made, and how the answer ends with it."""

    id: int
    logprob: float | None
    finish: str | None  # "stop" (an end-of-text token), "length", "scored", or not yet
    when: float  # seconds of the monotonic clock
    top: Sequence[tuple[int, float]] = ()  # the likeliest tokens with theirs, as many as were asked for


class Beside:
    """What only some requests need, opened when the first of them comes: a scorer, and grammars over the tokenizer."""

    def __init__(self, scorer: Callable[[], TokenScorer], grammars: Callable[[], Grammars]) -> None:
        """How both are opened."""
        self._open_scorer, self._open_grammars = scorer, grammars

    @cached_property
    def _scorer(self) -> TokenScorer:
        return self._open_scorer()

    @cached_property
    def _grammars(self) -> Grammars:
        return self._open_grammars()

    def guide(self, grammar: str) -> Guide:
        """A guide for one answer."""
        return self._grammars.guide(grammar)

    def score(self, ids: Sequence[int], top: int) -> list[Token]:
        """How likely each token of a text is after those before it, with the likeliest; the first has nothing before.

        All logits of the text are held at once, 4 bytes for each token of the vocabulary at each position.
        """
        logits = self._scorer.score(ids)
        scored: list[tuple[int, float | None, Sequence[tuple[int, float]]]] = [(ids[0], None, ())]
        for token, row in zip(ids[1:], logits[:-1], strict=True):
            most = float(row.max())
            whole = most + math.log(float(np.exp(row - most).sum()))
            scored.append((token, float(row[token]) - whole, likeliest(row, whole, top)))
        now, last = time.monotonic(), len(scored) - 1
        return [
            Token(token, logprob, "scored" if place == last else None, now, best)
            for place, (token, logprob, best) in enumerate(scored)
        ]


Told = tuple[int, Token]  # which request it is of


class Pace:
    """Choose tokens that wait for the next message, which comes `seconds` after the one before. Pure.

    Each message costs the server and its client time, on few cores the model's own. Nobody waits for a first token or
    an end: these go at once, with what waited.

    >>> pace = Pace(0.02)
    >>> [len(pace.add([(1, Token(5, None, None, when))])) for when in (0.0, 0.009, 0.018, 0.027)]
    [1, 0, 0, 3]
    """

    def __init__(self, seconds: float) -> None:
        """0: nothing waits."""
        self._seconds = seconds
        self._waiting: list[Told] = []
        self._begun: set[int] = set()  # requests whose first token was said
        self._said = 0.0

    def add(self, made: list[Told]) -> list[Told]:
        """Tokens of one step; returns what is to be said now."""
        self._waiting += made
        if not made:
            return []
        urgent, now = any(token.finish or key not in self._begun for key, token in made), made[0][1].when
        return self.rest(now) if urgent or now - self._said >= self._seconds else []

    def rest(self, now: float) -> list[Told]:
        """All that waits."""
        told, self._waiting, self._said = self._waiting, [], now
        self._begun.update(key for key, _ in told)
        self._begun.difference_update(key for key, token in told if token.finish)
        return told

    def forget(self, key: int) -> None:
        """Nobody waits for this request any more."""
        self._waiting = [one for one in self._waiting if one[0] != key]
        self._begun.discard(key)


def serve(
    engine: Engine,
    ends: frozenset[int],
    inbox: queue.SimpleQueue[dict[str, Any]],
    out: TextIO,
    pace_s: float,
    beside: Beside | None = None,
) -> None:
    """Take requests in between steps, until the inbox says that it is closed."""
    heeds: dict[int, bool] = {}  # requests under way, and whether an end-of-text token ends them
    pace, asked = Pace(pace_s), dict[int, dict[str, Any]]()  # texts to score, one between two steps: others wait for it
    while True:
        while not (heeds or asked) or not inbox.empty():
            message = inbox.get()
            if message is CLOSED:
                return
            if "drop" in message:
                pace.forget(message["drop"])
                asked.pop(message["drop"], None)
            elif "score" in message:
                asked[message["score"]] = message
                continue
            else:  # its prompt may take long to read
                _tell(out, pace.rest(time.monotonic()))
            with _refusing(out, message.get("add")):
                _take(engine, heeds, message, beside)
        if asked:
            key = next(iter(asked))
            with _refusing(out, key):
                assert beside is not None
                _tell(out, [(key, one) for one in beside.score(asked[key]["ids"], asked[key]["top"])])
            del asked[key]
        if not heeds:
            continue
        made, now = engine.step(), time.monotonic()
        told: list[Told] = []
        for one in made:
            if one.key not in heeds:
                continue
            finish = "stop" if heeds[one.key] and one.token in ends else "length" if one.last else None
            told.append((one.key, Token(one.token, one.logprob, finish, now, one.top)))
            if finish:
                del heeds[one.key]
                engine.drop(one.key)
        _tell(out, pace.add(told))


def _tell(out: TextIO, told: list[Told]) -> None:
    if told:
        say(out, {"made": told})


@contextlib.contextmanager
def _refusing(out: TextIO, key: int | None) -> Iterator[None]:
    """Say that a request cannot be begun; a library may raise anything at what a caller asked for."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        say(out, {"refused": [key, f"{type(error).__name__}: {error}"]})


def _take(engine: Engine, heeds: dict[int, bool], message: dict[str, Any], beside: Beside | None) -> None:
    if "drop" in message:
        if heeds.pop(message["drop"], None) is not None:
            engine.drop(message["drop"])
    else:
        sampling = Sampling.read(message["sampling"])
        if sampling.grammar:
            assert beside is not None
            sampling = replace(sampling, guide=beside.guide(sampling.grammar))
        engine.add(message["add"], message["ids"], message["new_tokens"], sampling)
        heeds[message["add"]] = message["ends"]


def read(inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Put each line of standard input into the inbox, and that it is closed at its end."""
    for line in sys.stdin:
        inbox.put(json.loads(line))
    inbox.put(CLOSED)


def say(out: TextIO, message: dict[str, Any]) -> None:
    """Write a message as one line."""
    out.write(json.dumps(message, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
