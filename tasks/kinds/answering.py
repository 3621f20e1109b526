"""What the child processes of `reference` and `evaluate` do."""

from __future__ import annotations

from tasks.kinds.base import Answered, ReferenceRequest, ScoreRequest
from tasks.kinds.table import scoring


def refer(request: ReferenceRequest) -> Answered:
    """Let the unquantized model answer."""
    return scoring(request.kind).refer(request)


def score(request: ScoreRequest) -> Answered:
    """Score an artifact until the gates are decided."""
    return scoring(request.opening.kind).score(request)
