"""Look whether a fresh artifact of named arrays is what it claims: its types, and its outputs on the probe."""

from __future__ import annotations

import numpy as np

from tasks.backends import table
from tasks.kinds.arrays.comparing import outputs
from tasks.kinds.arrays.rows import FILE, OUTPUTS, Named, Rows, answers, load
from tasks.kinds.base import Checked, CheckRequest
from tasks.kinds.stored import describe, precision_problem, weight_share
from tasks.records.artifact import Check
from tasks.records.terms import Precision

# Root mean square of the difference, as a share of the reference's spread, beyond which a configuration is wrong.
FURTHEST: dict[Precision, float] = {"fp32": 0.01, "bf16": 0.1, "fp16": 0.05, "int8": 0.7, "int4": 1.0}
BATCH = 8


def check(request: CheckRequest) -> Checked:
    """Compare outputs on the probe with the reference's."""
    opening, places = request.opening, request.places
    module = table.backend(opening.backend)
    session = table.arrays(opening.backend).arrays(opening.artifact, opening.threads)
    ours = answers(session, Rows.load(places.data / "probe" / FILE), BATCH)
    session.close()
    theirs = outputs(load(places.reference / "probe" / OUTPUTS))
    share = weight_share(module.tensor_bytes(opening.artifact))
    off = distance(ours, theirs)
    limit = max(FURTHEST.values()) if request.transformed else FURTHEST[request.precision]
    found = Check(
        distance=off,
        distance_limit=limit,
        distance_name="difference over the outputs' spread",
        agreement=same_class(ours, theirs),
        units=len(next(iter(theirs.values()))),
        tensor_share=share,
        precision_found=describe(share),
    )
    far = "" if off <= limit else f"its outputs are off by {off:.2f} of the reference's spread, over {limit}"
    return Checked(check=found, problem=_precision(share, request.precision) or far, versions=module.versions())


def _precision(share: dict[str, float], claimed: Precision) -> str:
    """Convolutions and heads that no kernel takes may stay wide: what counts is that there are weights in it at all."""
    return precision_problem(share, claimed, quantized=0.5) if claimed in ("fp32", "int8", "int4") else ""


def distance(ours: Named, theirs: Named) -> float:
    """Largest over the outputs; infinite where one is absent, of another shape or not finite."""
    worst = 0.0
    for name, wanted in theirs.items():
        found = ours.get(name)
        if found is None or found.shape != wanted.shape or not np.isfinite(found).all():
            return float("inf")
        spread = float(wanted.astype(np.float64).std()) or 1.0
        worst = max(worst, float(np.sqrt(((found.astype(np.float64) - wanted) ** 2).mean())) / spread)
    return worst


def same_class(ours: Named, theirs: Named) -> float:
    """Share of rows whose largest value stands where the reference's does, in the first output."""
    name = next(iter(theirs))
    found, wanted = (one[name].reshape(len(one[name]), -1) for one in (ours, theirs))
    return float((found.argmax(1) == wanted.argmax(1)).mean()) if found.shape == wanted.shape else 0.0
