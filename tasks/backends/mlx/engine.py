"""mlx-lm's batch generator, as language models are served to many."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.backends.base import Made
from tasks.backends.mlx.session import MlxSession
from tasks.backends.sampling import Drawn, Sampler, Sampling


class MlxEngine:
    """mlx-lm's batch generator, which takes requests in and lets them go while it runs."""

    def __init__(self, session: MlxSession, slots: int) -> None:
        """Stand before a loaded model."""
        from mlx_lm.generate import BatchGenerator

        self._session, self._mx = session, session._mx
        self._batch = BatchGenerator(session._model, completion_batch_size=slots, prefill_batch_size=1)
        self._running: dict[int, tuple[int, int]] = {}  # mlx-lm's number -> our key, tokens left
        self._drawn: dict[int, deque[Drawn]] = {}  # our key -> what its sampler chose and was not told yet

    def add(self, key: int, ids: Sequence[int], new_tokens: int, sampling: Sampling) -> None:
        """Begin a request."""
        [number] = self._batch.insert([list(ids)], max_tokens=[new_tokens], **self._chosen(key, ids, sampling))
        self._running[number] = (key, new_tokens)

    def _chosen(self, key: int, ids: Sequence[int], sampling: Sampling) -> dict[str, Any]:
        """How the request's tokens are chosen, as `insert` takes it.

        A sampler is given log-probabilities, which a repetition penalty would shape otherwise than the logits that the
        processor before it sees. Neither is ever none: of requests without one mlx-lm forgets none that has left, and
        gives a later one's to nobody (`GenerationBatch.filter`, 0.31).
        """
        if sampling == Sampling(seed=sampling.seed) and sampling.guide is None:
            best = lambda logprobs: self._mx.argmax(logprobs, axis=-1)  # noqa: E731 - greedy, and nothing else is asked
            return {"samplers": [best], "logits_processors": [[lambda _, logits: logits]]}
        own, drawn, rows = Sampler(sampling, ids), deque[Drawn](), deque[Any](maxlen=1)
        self._drawn[key] = drawn

        def seen(_: Any, logits: Any) -> Any:
            rows.append(logits)
            return logits

        def draw(_: Any) -> Any:
            [row] = np.array(rows[0].astype(self._mx.float32))
            drawn.append(own.next(row))
            return self._mx.array([drawn[-1].token])

        return {"samplers": [draw], "logits_processors": [[seen]]}

    def step(self) -> list[Made]:
        """Run one step of the generator."""
        if not self._running:
            return []
        made = []
        for one in self._batch.next()[1]:
            key, left = self._running[one.uid]
            token = int(one.token)
            top = self._drawn[key].popleft().top if key in self._drawn else ()
            made.append(Made(key, token, float(one.logprobs[token].item()), left == 1, top))
            self._running[one.uid] = (key, left - 1)
            if left == 1:
                del self._running[one.uid]
                self._drawn.pop(key, None)
        return made

    def drop(self, key: int) -> None:
        """Forget a request."""
        for number in [number for number, (own, _) in self._running.items() if own == key]:
            del self._running[number]
            self._batch.remove([number])
        self._drawn.pop(key, None)

    def close(self) -> None:
        """Free generator and model."""
        self._batch.close()
        self._session.close()
