"""The process that holds a model of named arrays: rows in and outputs out as JSON lines.

As `worker` is for models that write. In: {"map": key, "form": "texts" | "pictures" | "tensors", "rows": ...}, {"probe":
key}; {"drop": key} is heard and changes nothing, as what was begun is soon over. Out, once: {"ready": {...}} or
{"failed": reason}; then {"mapped": [key, {name: array}, rows]} or {"refused": [key, reason]}. Texts and pictures of
requests that wait at the same time are answered together.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tasks.backends.base import Settings
from tasks.backends.devices import on, opened
from tasks.errors import DataError, EdgewrightError
from tasks.kinds.base import Packed, Predictor
from tasks.kinds.table import predicting
from tasks.packaging.manifest import CONTENTS, Contents, verify_manifest
from tasks.serve.model.packing import packed, unpacked
from tasks.serve.model.worker import CLOSED, Opening, placed, read, say

TOGETHER = 64  # rows of several requests in one call
JOINED = ("texts", "pictures")  # forms of which rows can be answered together
OUTPUT = "output"  # the name of what comes without one, where the signature has none either


def main(argv: list[str]) -> int:
    """Load, say so, serve."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what runtimes print belongs to the log
    opening = Opening.model_validate_json(argv[0])
    try:
        predictor, ready = load(opening)
    except EdgewrightError as error:
        say(out, {"failed": str(error)})
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - a runtime may raise anything; the reason must reach the server
        say(out, {"failed": f"{type(error).__name__}: {error}"})
        return 1
    say(out, {"ready": ready})
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=read, args=(inbox,), daemon=True).start()
    serve(predictor, inbox, out, next(iter(ready["signature"]["outputs"]), OUTPUT))
    out.flush()
    os._exit(0)  # runtimes may crash while they are torn down


def load(opening: Opening) -> tuple[Predictor, dict[str, Any]]:
    """Verify the package, and open it as its kind does."""
    package = Path(opening.package)
    digest = verify_manifest(package, opening.manifest_sha256)
    contents = Contents.read(package / CONTENTS)
    kind, wanted = predicting(contents.kind), on(contents.settings, opening.device)

    def packed(settings: Settings) -> Packed:
        return Packed(backend=contents.backend, settings=dict(settings), chat=False, threads=opening.threads)

    found = opened(wanted, lambda settings: kind.open_package(package, packed(settings)))
    signature = kind.signature(package, packed(found.settings))
    ready = {"manifest_sha256": digest, "pid": os.getpid(), "signature": signature.model_dump(mode="json")}
    return found.made, ready | placed(found)


def serve(predictor: Predictor, inbox: queue.SimpleQueue[dict[str, Any]], out: TextIO, name: str = OUTPUT) -> None:
    """Answer what comes, what waits together, until the inbox says that it is closed.

    `name` is that of an output which comes without one.
    """
    while True:
        message = inbox.get()
        waiting = [message]
        while message is not CLOSED and not inbox.empty():
            waiting.append(inbox.get())
        for group in together([one for one in waiting if one is not CLOSED and "drop" not in one]):
            _answer(predictor, group, out, name)
        if any(one is CLOSED for one in waiting):
            return


def together(messages: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Requests in their order, neighbours of one form that can share a call joined, up to so many rows.

    >>> asked = [{"map": n, "form": form, "rows": ["a"] * count} for n, form, count in
    ...     ((1, "texts", 2), (2, "texts", 3), (3, "tensors", 1), (4, "texts", 1))]
    >>> [[one["map"] for one in group] for group in together(asked)]
    [[1, 2], [3], [4]]
    """
    found: list[list[dict[str, Any]]] = []
    for message in messages:
        last = found[-1] if found else []
        fits = bool(last) and _form(last[0]) in JOINED and _form(last[0]) == _form(message)
        if fits and sum(len(one["rows"]) for one in (*last, message)) <= TOGETHER:
            last.append(message)
        else:
            found.append([message])
    return found


def _form(message: Mapping[str, Any]) -> str:
    return str(message.get("form", ""))


def _answer(predictor: Predictor, group: Sequence[dict[str, Any]], out: TextIO, name: str) -> None:
    """Answer requests together; where that fails, each alone, so that one bad request costs the others nothing."""
    try:
        outputs = _named(predictor.predict(_rows(group), {}), name)
    except Exception as error:  # noqa: BLE001 - a library may raise anything at what a caller asked for
        if len(group) > 1:
            for one in group:
                _answer(predictor, [one], out, name)
            return
        said = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        say(out, {"refused": [_key(group[0]), said]})
        return
    start = 0
    for message in group:
        count = len(message["rows"]) if _form(message) in JOINED else len(next(iter(outputs.values())))
        own = outputs if len(group) == 1 else {name: value[start : start + count] for name, value in outputs.items()}
        say(out, {"mapped": [_key(message), {name: packed(value) for name, value in own.items()}, count]})
        start += count


def _key(message: Mapping[str, Any]) -> int:
    return int(message["probe"] if "probe" in message else message["map"])


def _rows(group: Sequence[dict[str, Any]]) -> Any:
    """What the predictor is given; None asks it for the example of its own that a probe is."""
    if "probe" in group[0]:
        return None
    if _form(group[0]) == "tensors":
        return {name: value if isinstance(value, list) else unpacked(value) for name, value in group[0]["rows"].items()}
    return [row for message in group for row in message["rows"]]


def _named(found: Any, name: str) -> dict[str, Any]:
    return dict(found) if isinstance(found, Mapping) else {name: np.asarray(found)}


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
