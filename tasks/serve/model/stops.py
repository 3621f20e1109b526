"""Stop sequences in text that comes in pieces. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Looks for any of some stop sequences; what may be the beginning of one is kept back until it is known.

    >>> stops = Stops(["END"])
    >>> [stops.add(piece) for piece in ("so E", "ND more")]
    [('so ', False), ('', True)]
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        """None of the sequences is empty."""
        self._sequences = tuple(sequences)
        self._kept = ""

    def add(self, piece: str) -> tuple[str, bool]:
        """Text that may be shown now, and whether a stop sequence was found; nothing of it or after it is shown."""
        text = self._kept + piece
        found = [at for one in self._sequences if (at := text.find(one)) >= 0]
        if found:
            self._kept = ""
            return text[: min(found)], True
        self._kept = text[len(text) - self._beginning(text) :]
        return text[: len(text) - len(self._kept)], False

    def rest(self) -> str:
        """Return what was kept back, when no more comes."""
        kept, self._kept = self._kept, ""
        return kept

    def _beginning(self, text: str) -> int:
        """The longest end of the text that a stop sequence begins with, characters."""
        longest = max((len(one) - 1 for one in self._sequences), default=0)
        ends = range(min(longest, len(text)), 0, -1)
        return next((n for n in ends if any(one.startswith(text[-n:]) for one in self._sequences)), 0)
