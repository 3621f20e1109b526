"""Let a reference or an artifact of named arrays answer the evaluation rows; kinds compare the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.backends import table
from tasks.backends.base import Arrays
from tasks.kinds.arrays.comparing import BESIDE
from tasks.kinds.arrays.rows import FILE, LABELS, OUTPUTS, Rows, answers, load, save
from tasks.kinds.base import Answered, ReferenceRequest, ScoreRequest
from tasks.measure.looks import Limit
from tasks.records.quality import Evaluation

REFERENCE_BACKEND = "onnx"
SCORES: tuple[str, ...] = (OUTPUTS,)
BATCH = 16


def refer(request: ReferenceRequest) -> Answered:
    """Keep the outputs of the unquantized model on evaluation rows and probe."""
    session = table.arrays(REFERENCE_BACKEND).arrays(request.model, request.threads)
    (request.out / "probe").mkdir()
    count = _keep(session, request.data / "evaluation", request.out / OUTPUTS)
    _keep(session, request.data / "probe", request.out / "probe" / OUTPUTS)
    runtime = session.runtime()
    session.close()
    return Answered(words=f"{count} rows answered", runtime=runtime)


def score(request: ScoreRequest) -> Answered:
    """Keep the outputs of an artifact on the evaluation rows, all at once: they take seconds."""
    opening = request.opening
    session = table.arrays(opening.backend).arrays(opening.artifact, opening.threads, opening.settings)
    count = _keep(session, request.places.data / "evaluation", request.out / OUTPUTS)
    runtime = session.runtime()
    session.close()
    return Answered(words=f"scored on all {count} rows", runtime=runtime)


def _keep(session: Arrays, data: Path, file: Path) -> int:
    rows = Rows.load(data / FILE)
    labels = load(data / LABELS) if (data / LABELS).is_file() else {}
    save(answers(session, rows, BATCH) | {BESIDE + name: value for name, value in labels.items()}, file)
    return len(rows)


def undecided(known: Evaluation, limits: Sequence[Limit]) -> tuple[str, ...]:
    """Nothing: all rows are scored at once."""
    return ()
