"""A fixed number of places, given in the order in which they were asked for, with a bounded queue before them."""

from __future__ import annotations

import asyncio
from collections import deque


class QueueFullError(Exception):
    """All places are taken, those to wait in as well."""


class Admission:
    """Places for requests: what asyncio's semaphore does, with a queue that ends, and no moment between two tasks in
    which a place looks free that is promised already.
    """

    def __init__(self, count: int, queue: int) -> None:
        """`count` at once, `queue` more that wait."""
        self._count, self._queue = count, queue
        self._taken = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        """Places given."""
        return self._taken

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiters)

    async def take(self, seconds: float) -> None:
        """Wait for a place; raises QueueFullError when the queue is full, TimeoutError when none came in time."""
        if self._taken < self._count:
            self._taken += 1
            return
        if len(self._waiters) >= self._queue:
            raise QueueFullError
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(mine)
        done, _ = await self._patiently(mine, seconds)
        if not done:
            self._waiters.remove(mine)
            raise TimeoutError

    async def _patiently(self, mine: asyncio.Future[None], seconds: float) -> tuple[set[asyncio.Future[None]], object]:
        try:
            return await asyncio.wait({mine}, timeout=seconds)
        except asyncio.CancelledError:
            if mine.done():
                self.leave()
            else:
                self._waiters.remove(mine)
            raise

    def leave(self) -> None:
        """Give a place back: to the next that waits, if any."""
        if self._waiters:
            self._waiters.popleft().set_result(None)
        else:
            self._taken -= 1
