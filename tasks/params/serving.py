"""What the server and a promotion are told; none of it changes an artifact."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, field_validator

from tasks.params.base import Block, Count, Positive, Share


class Serve(Block):
    """The inference server; none of it changes an artifact."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080  # 0: any that is free
    slots: Annotated[int, Field(ge=1, le=64)] = 8
    queue: Annotated[int, Field(ge=0)] = 32
    context_tokens: Annotated[int, Field(ge=64)] = 1024
    new_tokens: Count = 128
    pace_ms: Annotated[float, Field(ge=0)] = 30.0  # between two chunks of a stream, at least
    deadline_s: Positive = 120.0
    body_kb: Count = 256
    probe_s: Positive = 5.0
    hang_s: Positive = 20.0
    drain_s: Positive = 30.0
    log_mb: Positive = 50.0
    log_files: Count = 5
    log_text: bool = False
    cors: Annotated[tuple[str, ...], Field(strict=False)] = ()  # pages that browsers may call from; "*": any


class Promotion(Block):
    """Limits of a new version's way to all of the traffic; none of them changes an artifact."""

    shares: Annotated[tuple[float, ...], Field(strict=False)] = (1.0, 5.0, 25.0, 50.0, 100.0)  # percent, step by step
    min_requests: Count = 50  # of the new version in a phase or step; a larger share of the traffic needs more
    min_caller_share: Share = 0.5  # of these requests, from callers and not from probes
    max_looks: Count = 5  # interim analyses of one step before it is given up
    probes_per_s: Positive = 4.0
    mirror_share: Share = 0.2  # of the callers' requests that are asked again of both versions, to compare answers
    compare_tokens: Count = 24  # of a mirrored answer
    max_latency_ratio: Annotated[float, Field(gt=1)] = 1.25  # to the old version
    first_token_grace_ms: Annotated[float, Field(ge=0)] = 2.0  # later by no more than this is not slower
    max_confidence_drop: Share = 0.2  # as a share of the old version's confidence
    min_agreement: Share = 0.3  # mean likeness of both versions' answers in words
    min_likeness: Share = 0.9  # and of their vectors, classes and tensors
    max_memory_ratio: Annotated[float, Field(gt=1)] = 1.5  # to what the new version took when it was staged
    max_start_s: Positive = 120.0  # until a new version is ready for the first time
    max_unready_s: Positive = 10.0  # that a new version may be unready afterwards
    max_hold_s: Positive = 20.0  # that a request waits for a server that is started again
    tick_s: Positive = 0.5
    reconcile_s: Positive = 60.0

    @field_validator("shares")
    @classmethod
    def _rising(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if not shares or list(shares) != sorted(set(shares)) or shares[0] <= 0 or shares[-1] != 100:
            raise ValueError("shares must be above 0, rise, and end with 100")
        return shares


def more_errors(share: float) -> float:
    """By how much more of its requests a challenger with so many percent of the traffic may fail, as a share.

    The smaller its share, the fewer callers meet a failure, and the fewer requests there are to tell.

    >>> [round(more_errors(share), 3) for share in (1, 5, 25, 50, 100)]
    [0.15, 0.089, 0.04, 0.028, 0.02]
    """
    return min(0.15, 0.02 * math.sqrt(100.0 / share))
