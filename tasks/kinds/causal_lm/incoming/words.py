"""Names and errors of others in our sentences."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 4


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are.

    >>> some(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d and 2 more'
    """
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def first_line(error: Exception) -> str:
    """What a library's error says first; its kind where it says nothing.

    >>> first_line(ValueError()), first_line(KeyError("x"))
    ('ValueError', "'x'")
    """
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
