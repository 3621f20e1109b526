"""The process that holds the model: requests in and tokens out as JSON lines, a step of the engine at a time.

It is a process of its own so that a runtime that dies takes no connection with it, and is started again. It verifies
the package before it loads anything of it, and ends when its standard input closes.

In: {"add": key, "ids": [...], "new_tokens": n, "temperature": t, "top_p": p, "seed": s, "ends": true}, {"drop": key}.
Out, once: {"ready": {...}} or {"failed": reason}; then per step {"made": [[key, token, logprob, finish], ...]}, where
finish is null, "stop" (an end-of-text token, which is not part of the answer) or "length".
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from tasks import config
from tasks.backends.base import Engine, backend, threads_of
from tasks.backends.sampling import Sampling
from tasks.errors import EdgewrightError
from tasks.packaging.manifest import CONTENTS, Contents, verify_manifest
from tasks.records import Record

# Rounds that a thread of llama.cpp spins at a barrier before it sleeps: as fast as endless ones while cores are free.
SPINS = "2000"
CLOSED: dict[str, Any] = {}  # what the reader says when there is nothing more to read


class Opening(Record):
    """What a worker is started with."""

    package: str
    manifest_sha256: str | None
    threads: int
    slots: int
    context: int
    ends: tuple[int, ...]  # tokens that end a text


def main(argv: list[str]) -> int:
    """Load, say so, serve."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what runtimes print belongs to the log
    opening = Opening.model_validate_json(argv[0])
    try:
        engine, ready = _load(opening)
    except EdgewrightError as error:
        _say(out, {"failed": str(error)})
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - a runtime may raise anything; the reason must reach the server
        _say(out, {"failed": f"{type(error).__name__}: {error}"})
        return 1
    _say(out, {"ready": ready})
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(inbox,), daemon=True).start()
    serve(engine, frozenset(opening.ends), inbox, out)
    out.flush()
    os._exit(0)  # runtimes may crash while they are torn down


def _load(opening: Opening) -> tuple[Engine, dict[str, Any]]:
    package = Path(opening.package)
    digest = verify_manifest(package, opening.manifest_sha256)
    contents = Contents.read(package / CONTENTS)
    if contents.backend == "gguf":
        _meet(threads_of(contents.settings, opening.threads))
    # One slot more than is served: the health probe never waits for requests.
    engine: Engine = backend(contents.backend).engine(
        package / "model", opening.threads, opening.slots + 1, opening.context, contents.settings
    )
    return engine, {"manifest_sha256": digest, "pid": os.getpid()}


def _meet(threads: int) -> None:
    """How llama.cpp's threads wait for each other; libgomp reads it when llama.cpp is loaded.

    Threads that sleep at barriers are woken where the waker runs: two of them can share one core for seconds while the
    other is idle, and do whenever somebody takes a core for a moment. So where there is a core for each, each keeps to
    its own: as fast alone, and 2.5 times as fast beside a process that keeps one of two busy (39 against 15 tok/s).
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    if threads == len(config.cores()):
        os.environ.setdefault("OMP_PROC_BIND", "true")


def serve(engine: Engine, ends: frozenset[int], inbox: queue.SimpleQueue[dict[str, Any]], out: TextIO) -> None:
    """Take requests in between steps, until the inbox says that it is closed."""
    heeds: dict[int, bool] = {}  # requests under way, and whether an end-of-text token ends them
    while True:
        while not heeds or not inbox.empty():
            message = inbox.get()
            if message is CLOSED:
                return
            _take(engine, heeds, message)
        told: list[tuple[int, int, float | None, str | None]] = []
        for made in engine.step():
            if made.key not in heeds:
                continue
            finish = "stop" if heeds[made.key] and made.token in ends else "length" if made.last else None
            told.append((made.key, made.token, made.logprob, finish))
            if finish:
                del heeds[made.key]
                engine.drop(made.key)
        if told:
            _say(out, {"made": told})


def _take(engine: Engine, heeds: dict[int, bool], message: dict[str, Any]) -> None:
    if "drop" in message:
        if heeds.pop(message["drop"], None) is not None:
            engine.drop(message["drop"])
        return
    sampling = Sampling(message["temperature"], message["top_p"], message["seed"])
    engine.add(message["add"], message["ids"], message["new_tokens"], sampling)
    heeds[message["add"]] = message["ends"]


def _read(inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        inbox.put(json.loads(line))
    inbox.put(CLOSED)


def _say(out: TextIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
