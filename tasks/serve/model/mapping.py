"""What the server does with a request to a model of named arrays: admit it in turn, answer, note how it went."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.backends.sampling import Sampling
from tasks.serve.log.prediction_log import Prediction
from tasks.serve.log.sketch import projected, suspicious
from tasks.serve.log.trace import GenerationRequest, RequestTrace
from tasks.serve.model.answering import Answering, LateError
from tasks.serve.model.process import GoneError, Mapped, RefusedError

WORKER = "tasks.serve.model.mapping_worker"
Form = Literal["texts", "pictures", "tensors"]


@dataclass(frozen=True)
class MapRequest:
    """Rows to be mapped, and who asks."""

    form: Form
    rows: Any  # texts; pictures in base64; or packed arrays by name
    endpoint: str
    request_id: str
    client: str

    @property
    def count(self) -> int:
        """Rows, as far as they can be told; tensors count as one."""
        return 1 if self.form == "tensors" else len(self.rows)


class Mapper(Answering):
    """Outputs for rows, from one model process."""

    async def map(self, asked: MapRequest) -> Mapped:
        """The outputs; raises BusyError, LateError, GoneError or RefusedError."""
        arrived = await self.admit()
        trace, error, found = RequestTrace(arrived, begun=time.monotonic()), "gone-away", None
        self.metrics.queue.observe((trace.begun or arrived) - arrived)
        try:
            answer = self.process.ask("map", {"form": asked.form, "rows": asked.rows})
            try:
                answer.due(max(0.001, arrived + self.settings.deadline_s - time.monotonic()))
                self.metrics.under_way.set(self.process.under_way)
                found = await answer.mapped()
            except TimeoutError:
                raise LateError(f"the answer was not there within {self.settings.deadline_s:g} s") from None
            finally:
                answer.close()
            error = ""
            return found
        except (LateError, GoneError) as problem:
            error = "deadline" if isinstance(problem, LateError) else "worker"
            raise
        except RefusedError:
            error = "malformed"
            raise
        finally:
            self.leave()
            self._end(asked, trace, error, found)

    def _end(self, asked: MapRequest, trace: RequestTrace, error: str, found: Mapped | None) -> None:
        now = time.monotonic()
        odd = asked.form == "texts" and any(suspicious(text) for text in asked.rows)
        self.metrics.under_way.set(self.process.under_way)
        self.metrics.requests.labels(endpoint=asked.endpoint, outcome=error or "ok").inc()
        self.metrics.suspicious.inc(odd)
        if error:
            self.metrics.errors.labels(kind=error).inc()
        else:
            self.took(now - trace.arrived)
        trace.finish = "" if error else "whole"
        self.log.add(self._line(asked, trace, now, error, found, odd))

    def _line(
        self, asked: MapRequest, trace: RequestTrace, now: float, error: str, found: Mapped | None, odd: bool
    ) -> Prediction:  # fmt: skip
        """A line of the log: of the rows their number and digest, of the outputs a sketch that shows their drift."""
        bare = GenerationRequest(
            (), 0, Sampling(), endpoint=asked.endpoint, request_id=asked.request_id, client=asked.client
        )  # fmt: skip
        line = Prediction.of(bare, trace, now, error, self.version, texts=False)
        raw = json.dumps(asked.rows, sort_keys=True).encode()
        kept = {
            "prompt_sha256": hashlib.sha256(raw).hexdigest(),
            "prompt_tokens": found.rows if found else asked.count,
            "rarity": round(float(np.log1p(len(raw))), 1),
            "suspicious": odd,
        }
        if found is not None and found.outputs:
            first = next(iter(found.outputs.values()))
            kept |= {"sketch": projected(first), "confidence": sureness(first)}
        if self.settings.log_text and asked.form == "texts":
            kept["prompt"] = "\n".join(asked.rows)
        return line.model_copy(update=kept)


def sureness(output: NDArray[Any]) -> float | None:
    """How likely the likeliest class is, mean over rows; None of outputs that are no classes: vectors of one length.

    >>> sureness(np.array([[0.0, 0.0], [100.0, 0.0]]))
    0.75
    """
    rows = output.reshape(len(output), -1).astype(np.float64) if output.ndim else np.zeros((1, 1))
    if rows.shape[1] < 2 or not len(rows) or np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-3):
        return None
    scores = np.exp(rows - rows.max(1, keepdims=True))
    return round(float((scores.max(1) / scores.sum(1)).mean()), 6)
