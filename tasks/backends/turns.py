"""An engine over a runtime without batches that change: requests take turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks.backends.base import Made
from tasks.backends.sampling import Sampling, Stream


class Interleaved:
    """An engine over a runtime without batches that change: requests take turns, a token each."""

    def __init__(self, begin: Callable[[Sequence[int], int, Sampling], Stream], close: Callable[[], None]) -> None:
        """`begin` opens a request: prompt, new tokens, sampling; its prompt is read when its first token is taken."""
        self._begin, self._close = begin, close
        self._running: dict[int, tuple[Stream, int]] = {}
        self._waiting: dict[int, tuple[Sequence[int], int, Sampling]] = {}

    def add(self, key: int, ids: Sequence[int], new_tokens: int, sampling: Sampling) -> None:
        """Begin a request."""
        self._waiting[key] = (ids, new_tokens, sampling)

    def step(self) -> list[Made]:
        """A token of each, and of those that wait the first one's: others are not kept for longer than one prompt."""
        if self._waiting:
            key, (ids, new_tokens, sampling) = next(iter(self._waiting.items()))
            del self._waiting[key]
            self._running[key] = (self._begin(ids, new_tokens, sampling), new_tokens)
        made = []
        for key, (stream, left) in list(self._running.items()):
            drawn = next(stream)
            made.append(Made(key, drawn.token, drawn.logprob, left == 1, drawn.top))
            self._running[key] = (stream, left - 1)
            if left == 1:
                del self._running[key]
        return made

    def drop(self, key: int) -> None:
        """Forget a request."""
        self._waiting.pop(key, None)
        self._running.pop(key, None)

    def close(self) -> None:
        """Free the model."""
        self._running.clear()
        self._close()
