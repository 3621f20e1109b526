"""What is asked of a loaded artifact while it is timed, soaked and weighed; each kind of model has its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol


class Workload(Protocol):
    """Requests of one kind of model to one loaded artifact. Numbers say which request; they may be any from 0 on."""

    @property
    def distinct(self) -> int:
        """Number of requests of a soak that differ."""
        ...

    def first(self) -> None:
        """Ask once, as the first caller does: a short request and the beginning of its answer."""
        ...

    def samples(self) -> dict[str, list[float]]:
        """Time every phase; samples per metric, of the same requests in the same order in every process."""
        ...

    def heavy(self) -> None:
        """Make the request whose memory counts."""
        ...

    def soak(self, number: int) -> int:
        """Make one ordinary request; how many units of work (tokens, examples) it was, whose energy is counted."""
        ...

    def longest(self) -> bool:
        """Make the longest request that must be answered; whether it was."""
        ...

    def stress(self, number: int) -> Hashable:
        """Make one request among others at the same time; its answer, equal to that given alone."""
        ...

    def sizes(self) -> dict[str, int]:
        """Tell how large the timed requests are, by name."""
        ...

    def runtime(self) -> dict[str, str]:
        """Tell the properties that the runtime really uses."""
        ...


Open = Callable[[], Workload]  # loads the artifact anew
Prepare = Callable[[], None]  # imports what loading needs
