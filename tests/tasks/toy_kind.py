"""A kind of model outside of the product: a linear layer of NumPy, arrays in and arrays out, all in one file."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import Arrays, Family
from tasks.backends.table import arrays, backend
from tasks.errors import DataError, ModelError
from tasks.kinds import common_metrics as common
from tasks.kinds.base import (
    Answered,
    Calibration,
    Checked,
    CheckRequest,
    DataCard,
    Form,
    Origin,
    Packed,
    Prepared,
    ReferenceRequest,
    ScoreRequest,
    Signature,
)  # fmt: skip
from tasks.kinds.catalogue import NEVER, Axis, CardLine, Catalogue, Column, Gate, MetricSpec, Place, speedup
from tasks.kinds.stored import describe as types_in_words
from tasks.kinds.stored import precision_problem, weight_share
from tasks.measure.looks import Limit
from tasks.measure.requests import Opening
from tasks.params.pipeline import Benchmark, Convert, Data, Fetch
from tasks.records.artifact import Check
from tasks.records.base import Estimate
from tasks.records.model import ModelProfile
from tasks.records.quality import Evaluation
from tasks.sources.files import Source

FAMILY: Family = "arrays"
SERVES: tuple[Form, ...] = ("tensors",)
REFERENCE_BACKEND = "onnx"
SCORES = ("outputs.npy",)
ROWS, X, Y = "rows.npy", "x", "y"

CATALOGUE = Catalogue(
    "tests.tasks.toy_kind",
    (
        MetricSpec(
            name="agreement", title="same class", group="quality", better="higher", form="percent", source="quality",
            counted="rows", interval="rows", gate=Gate("agree", 0.9, limits="share"),
            column=Column("same class", "rows whose class is the reference's", order=2, drop=NEVER),
            card=CardLine("same class as the reference", "{:.2%}", order=1),
            axis=Axis("quality", 0.5, "linear", "", words="same class", order=1), headline=Place(4, "classes"),
            step=Place(2, "classes"), plane=Place(3, "same class"), claim="keeps {} of the classes",
        ),
        MetricSpec(
            name="rows_per_s", title="rows", group="speed", better="higher", unit="rows/s", source="phase",
            column=Column("rows", "speed on one batch", order=7, extras=("×",)),
            axis=Axis("speed", 0.5, "log", "rows/s"),
            headline=Place(1, "rows"), plane=Place(1, "Quality and speed"),
        ),
    ),
    common.SIZE, common.MEMORY, common.STABILITY, common.PLACEMENT, common.SECURITY,
    (speedup("rows_speedup", "rows_per_s", "rows against the reference", Gate("rows", 0.01), step=Place(1, "rows")),),
    tuple(row for row in common.SHARES if row.of in {"artifact_mb", "peak_rss_mb"}),
)  # fmt: skip


def recognises(model: str) -> bool:
    """Whether this is a file of weights of NumPy."""
    return model.endswith(".npz")


def refuse(params: Any) -> None:
    """Nothing, neither of models nor of data."""


def expand(params: Fetch, out: Path) -> Origin:
    """Write weight and bias as an ONNX model of one Gemm."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    file = Path(params.model)
    if not file.is_file():
        raise ModelError(f"{file} is not there; give a .npz with weight and bias")
    with np.load(file) as stored:
        weight, bias = stored["weight"].astype(np.float32), stored["bias"].astype(np.float32)
    kinds = {X: ["rows", weight.shape[0]], Y: ["rows", weight.shape[1]]}
    ports = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in kinds.items()}
    graph = helper.make_graph(
        [helper.make_node("Gemm", [X, "weight", "bias"], [Y])], "toy", [ports[X]], [ports[Y]],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, out / "model.onnx")
    return Origin(name=file.stem, origin=f"{file.name}, given as a file")


def describe(folder: Path) -> ModelProfile:
    """Count its weights."""
    import onnx
    from onnx import numpy_helper

    source = Source.read(folder / "source.json")
    stored = [numpy_helper.to_array(one) for one in onnx.load(folder / "model.onnx").graph.initializer]
    count, size = sum(one.size for one in stored), sum(one.nbytes for one in stored)
    return ModelProfile(
        **source.model_dump(include={"name", "source", "origin", "sha256"}),
        modality=source.kind, family=FAMILY, architecture="Linear", parameters=count, size_mb=size / 1e6,
        dtype="float32", memory_mb={"fp32": size / 1e6, "int8": size / 4e6},
    )  # fmt: skip


def prepare(params: Data, convert: Convert, model: Path, out: Path) -> Prepared:
    """Draw rows by the seed."""
    dice, width = np.random.default_rng(params.seed), _inputs(model)
    counts = {"evaluation": params.evaluation_rows, "calibration": params.calibration_rows, "probe": 8, "workload": 64}
    drawn = {name: dice.normal(size=(count, width)).astype(np.float32) for name, count in counts.items()}
    for name, rows in drawn.items():
        (out / name).mkdir()
        np.save(out / name / ROWS, rows)
    checked = [
        {"split": name, "text": str(row), "size": width, "sha256": hashlib.sha256(row.tobytes()).hexdigest()}
        for name in ("evaluation", "calibration")
        for row in drawn[name]
    ]
    digests = {f"{name}_sha256": hashlib.sha256(drawn[name].tobytes()).hexdigest() for name in list(drawn)[:2]}
    card = DataCard(
        source="drawn by the seed", evaluation_rows=params.evaluation_rows, calibration_rows=params.calibration_rows,
        checks=(), **digests,
    )  # fmt: skip
    return Prepared(card=card, rows=checked, sizes=(width, width), unit="features")


def _inputs(model: Path) -> int:
    session = arrays(REFERENCE_BACKEND).arrays(model, 1)
    [port] = session.inputs.values()
    session.close()
    return int(port.shape[-1] or 0)


def calibration(data: Path) -> Calibration:
    """One feed a row."""
    return Calibration(arrays=[{X: row[None]} for row in np.load(data / "calibration" / ROWS)])


def refer(request: ReferenceRequest) -> Answered:
    """Keep the outputs on evaluation rows and probe."""
    session = arrays(REFERENCE_BACKEND).arrays(request.model, request.threads)
    (request.out / "probe").mkdir()
    np.save(request.out / SCORES[0], _outputs(session, request.data / "evaluation"))
    np.save(request.out / "probe" / SCORES[0], _outputs(session, request.data / "probe"))
    return Answered(words="answered", runtime=session.runtime())


def _outputs(session: Arrays, folder: Path) -> NDArray[Any]:
    [found] = session.run({X: np.load(folder / ROWS)}).values()
    return found


def check(request: CheckRequest) -> Checked:
    """Compare outputs on the probe, as a share of their spread."""
    opening, places = request.opening, request.places
    module, session = backend(opening.backend), arrays(opening.backend).arrays(opening.artifact, opening.threads)
    ours, theirs = _outputs(session, places.data / "probe"), np.load(places.reference / "probe" / SCORES[0])
    session.close()
    share = weight_share(module.tensor_bytes(opening.artifact))
    found = Check(
        distance=float(np.abs(ours - theirs).mean() / theirs.std()), distance_limit=0.2, distance_name="mean error",
        agreement=float((ours.argmax(1) == theirs.argmax(1)).mean()), units=len(ours), tensor_share=share,
        precision_found=types_in_words(share),
    )  # fmt: skip
    far = "" if found.distance <= found.distance_limit else f"is off by {found.distance:.2f} of the outputs' spread"
    return Checked(check=found, problem=precision_problem(share, request.precision) or far, versions=module.versions())


def score(request: ScoreRequest) -> Answered:
    """Keep the outputs on the evaluation rows."""
    opening = request.opening
    session = arrays(opening.backend).arrays(opening.artifact, opening.threads, opening.settings)
    np.save(request.out / SCORES[0], _outputs(session, request.places.data / "evaluation"))
    return Answered(words="scored on all rows", runtime=session.runtime())


def summarise(scores: Path, reference: Path, level: float) -> dict[str, Any]:
    """How often the class is the reference's, with its standard error."""
    same = np.load(scores / SCORES[0]).argmax(1) == np.load(reference / SCORES[0]).argmax(1)
    share = float(same.mean())
    found = Estimate(value=share, se=float(np.sqrt(share * (1 - share) / len(same))))
    return {"figures": {"agreement": found}, "counts": {"rows": len(same)}}


def undecided(known: Evaluation, limits: Sequence[Limit]) -> tuple[str, ...]:
    """Nothing: all rows are scored at once."""
    return ()


@dataclass
class ToyWorkload:
    """Batches of rows."""

    session: Arrays
    rows: NDArray[Any]
    repeats: int
    distinct: int = 4

    def _run(self, rows: NDArray[Any]) -> NDArray[Any]:
        [found] = self.session.run({X: rows}).values()
        return found

    def first(self) -> None:
        self._run(self.rows[:1])

    def samples(self) -> dict[str, list[float]]:
        found = []
        for _ in range(self.repeats):
            began = perf_counter()
            for _ in range(50):
                self._run(self.rows)
            found.append(50 * len(self.rows) / (perf_counter() - began))
        return {"rows_per_s": found}

    def heavy(self) -> None:
        self._run(self.rows)

    def soak(self, number: int) -> int:
        return len(self._run(self.rows[number % self.distinct :]))

    def longest(self) -> bool:
        return len(self._run(np.tile(self.rows, (16, 1)))) == 16 * len(self.rows)

    def stress(self, number: int) -> Hashable:
        return self._run(self.rows[number % len(self.rows)][None]).tobytes()

    def sizes(self) -> dict[str, int]:
        return {"rows": len(self.rows)}

    def runtime(self) -> dict[str, str]:
        return self.session.runtime()


def workload(opening: Opening, data: Path, settings: Benchmark, brief: bool) -> ToyWorkload:
    """Load an artifact with a batch of rows."""
    session = arrays(opening.backend).arrays(opening.artifact, opening.threads, opening.settings)
    return ToyWorkload(session, np.load(data / "workload" / ROWS), settings.repeats)


def companions(model: Path, out: Path) -> None:
    """Nothing belongs beside it."""


def converses(model: Path) -> bool:
    """It does not."""
    return False


def signature(package: Path, packed: Packed) -> Signature:
    """Rows in, one score per class out."""
    return Signature(inputs={X: "float32[-1,8]"}, outputs={Y: "float32[-1,3]"})


def open_package(package: Path, packed: Packed) -> ToyPredictor:
    """Load the artifact."""
    return ToyPredictor(arrays(packed.backend).arrays(package / "model", packed.threads, packed.settings))


@dataclass
class ToyPredictor:
    """Rows in, scores out."""

    session: Arrays

    def predict(self, rows: Any, parameters: Mapping[str, Any]) -> NDArray[Any]:
        """Scores of each class."""
        given = rows[X] if isinstance(rows, dict) else rows
        if np.ndim(given) != 2:
            raise DataError(f"rows have {np.ndim(given)} dimensions; they must have two")
        [found] = self.session.run({X: np.asarray(given, dtype=np.float32)}).values()
        return found
