"""What every stage's `main` does the same way: run, report an error in words, return its exit code."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from tasks.errors import EXIT_OK, EdgewrightError


def run_stage(work: Callable[[], int | None]) -> int:
    """Call `work`; an EdgewrightError becomes a line on stderr and its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        return work() or EXIT_OK
    except EdgewrightError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
