"""The child's side of `run_child`: do one piece of work, answer with one JSON line.

Usage: python -m tasks.run.worker package.module:function request.json
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from tasks.errors import EdgewrightError, UnsupportedError
from tasks.records.base import Record


def main(argv: list[str]) -> int:
    """Run the work; whatever goes wrong is answered in words, with the traceback in the log."""
    work, request = argv
    answer_to = os.dup(1)
    os.dup2(2, 1)  # what libraries print belongs to the log; standard output is for the answer
    if not sys.stdin.isatty():
        threading.Thread(target=_end_with_parent, daemon=True).start()
    module, function = work.split(":")
    try:
        call = getattr(importlib.import_module(module), function)
        asked = _request_of(call).model_validate_json(Path(request).read_bytes())
        answer: dict[str, Any] = {"ok": True, "result": call(asked).model_dump(mode="json")}
    except UnsupportedError as error:
        answer = {"ok": False, "kind": "unsupported", "reason": str(error)}
    except EdgewrightError as error:
        answer = {"ok": False, "kind": "bad-input", "reason": str(error)}
    except MemoryError as error:
        answer = {"ok": False, "kind": "memory", "reason": f"ran out of memory: {error or 'no details'}"}
    except Exception as error:  # noqa: BLE001 - the border: a framework may raise anything
        traceback.print_exc()
        answer = {"ok": False, "kind": "crash", "reason": f"{type(error).__name__}: {_first_line(str(error))}"}
    sys.stdout.flush()
    with os.fdopen(answer_to, "w") as out:
        out.write("\n" + json.dumps(answer) + "\n")
    # Runtimes may crash while they are torn down; the answer is already out.
    os._exit(0)


def _request_of(call: Callable[[Any], Record]) -> type[Record]:
    """The record that a function of one parameter says it takes."""
    hints = get_type_hints(call)
    hints.pop("return", None)
    (kind,) = hints.values()
    if not (isinstance(kind, type) and issubclass(kind, Record)):
        raise TypeError(f"{call.__qualname__} takes {kind}; work of a child process takes a record")
    return kind


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no message")


def _end_with_parent() -> None:
    """Exit when the parent's end of the pipe closes, so that a killed run leaves no orphan behind."""
    while sys.stdin.buffer.read(1):
        pass
    os._exit(75)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
