"""Rows split into what is judged, calibrated, probed and timed with; no row in two of the first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import DataError
from tasks.kinds.arrays.rows import FILE, LABELS, Named, Rows, save
from tasks.kinds.base import Calibration, DataCard, Prepared
from tasks.params.pipeline import Data

PROBE, WORKLOAD = 8, 96  # rows
FEWEST = 12

Parts = Mapping[str, NDArray[np.int64]]  # evaluation and calibration -> numbers of rows


@dataclass(frozen=True)
class Said:
    """What the data's description says of rows."""

    source: str
    unit: str  # of a row's size
    notes: tuple[str, ...] = ()


def choose(rows: Rows, params: Data, source: str) -> tuple[Parts, tuple[str, ...]]:
    """Draw evaluation and calibration rows by the seed, and say what was left out; raises DataError for too few.

    Rows that stand there twice count once.
    """
    digests = [_digest(rows, number) for number in range(len(rows))]
    own = list({digest: number for number, digest in reversed(list(enumerate(digests)))}.values())
    np.random.default_rng(params.seed).shuffle(own)
    if len(own) < FEWEST:
        raise DataError(f"{source} has {len(own)} different rows; at least {FEWEST} are needed")
    count = min(params.calibration_rows, len(own) // 3)
    kept, held = own[count:][: params.evaluation_rows], own[:count]
    notes = [f"{len(rows) - len(own)} rows stood there twice and count once"] if len(own) < len(rows) else []
    for what, have, wanted in (
        ("evaluate", len(kept), params.evaluation_rows),
        ("calibrate", len(held), params.calibration_rows),
    ):
        notes += [f"{have} rows to {what} where {wanted} were asked for"] if have < wanted else []
    return {"evaluation": np.array(kept), "calibration": np.array(held)}, tuple(notes)


def put(rows: Rows, labels: Named, parts: Parts, sizes: NDArray[Any], out: Path, said: Said) -> Prepared:
    """Write evaluation, calibration, probe and workload into folders of `out`; `sizes` are those of all rows."""
    kept = parts["evaluation"]
    for name, numbers in {**parts, "probe": kept[:PROBE], "workload": kept[:WORKLOAD]}.items():
        chosen = Rows({key: value[numbers] for key, value in rows.arrays.items()}, rows.mask, rows.whole)
        chosen.save(out / name / FILE)
        if labels and name in parts:
            save({key: value[numbers] for key, value in labels.items()}, out / name / LABELS)
    digests = {name: [_digest(rows, int(number)) for number in numbers] for name, numbers in parts.items()}
    told = [
        {"split": name, "text": f"row {number}", "size": int(sizes[number]), "sha256": digest}
        for name, numbers in parts.items()
        for number, digest in zip(numbers, digests[name], strict=True)
    ]
    card = DataCard(
        source=said.source,
        evaluation_rows=len(kept),
        calibration_rows=len(parts["calibration"]),
        evaluation_sha256=_all(digests["evaluation"]),
        calibration_sha256=_all(digests["calibration"]),
        checks=(),
        notes=said.notes,
    )
    return Prepared(card=card, rows=told, sizes=(1, int(sizes.max())), unit=said.unit)


def numbers_in(rows: Rows) -> NDArray[np.int64]:
    """How many numbers each row holds."""
    return np.full(len(rows), sum(int(one[0].size) for one in rows.arrays.values()))


def _digest(rows: Rows, number: int) -> str:
    found = hashlib.sha256()
    for name in sorted(rows.arrays):
        found.update(name.encode() + np.ascontiguousarray(rows.arrays[name][number]).tobytes())
    return found.hexdigest()


def _all(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def calibration(data: Path) -> Calibration:
    """What a quantizer may look at, a row at a time."""
    return Calibration(arrays=tuple(Rows.load(data / "calibration" / FILE).batches(1)))
