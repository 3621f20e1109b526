"""What the user sees while stages run: a line when one starts, a line when it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(0.26), duration(42.4), duration(125)
    ('0.3 s', '42 s', '2 min 05 s')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def tell(line: str) -> None:
    """Print at once, even into a pipe."""
    print(line, flush=True)


class Clock:
    """Time since the line was opened, and how it ended."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.ending = "done"

    @property
    def seconds(self) -> float:
        """Elapsed so far."""
        return time.monotonic() - self._began


@contextmanager
def stage(name: str, number: int = 0, count: int = 0) -> Iterator[Clock]:
    """Announce a stage and say how long it took; the block may set `ending`, an exception counts as a failure."""
    verb, _, variant = name.partition("@")
    place = f"[{number:>{len(str(count))}}/{count}] " if count else ""
    place = f"{place}{verb} {variant}".rstrip()
    tell(f"{place} ...")
    clock = Clock()
    try:
        yield clock
    except BaseException as error:
        clock.ending = "stopped" if isinstance(error, KeyboardInterrupt) else "FAILED"
        raise
    finally:
        tell(f"{place}: {clock.ending}, {duration(clock.seconds)}")
