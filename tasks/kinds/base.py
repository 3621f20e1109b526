"""What differs by kind of model, as protocols that modules keep, one for each stage's question.

A kind is a folder here with a module for each protocol (expanding, describing, preparing, checking, scoring, workload,
packing, predicting, and its metrics), or one module with all of their functions, and a line in the table. A stage that
asks one thing depends on nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tasks.backends.base import Family as Family
from tasks.measure.looks import Limit
from tasks.measure.requests import Opening
from tasks.measure.workload import Workload
from tasks.params.pipeline import Benchmark, Convert, Data, Evaluate, Fetch
from tasks.records.artifact import Check
from tasks.records.base import Record
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.records.quality import Evaluation
from tasks.records.terms import Precision


class Places(Record):
    """Folders that a kind wrote earlier. Names inside are its own affair, but for those that dvc.yaml names."""

    model: Path  # the unquantized checkpoint
    data: Path  # evaluation/, calibration/, probe/ and workload/
    reference: Path  # probe/, and what the kind keeps beside it


class Origin(Record):
    """Name and origin of an expanded model, in words for the model card."""

    name: str
    origin: str
    stored: str = ""  # the type of most of its weights, where they came quantized


class DataCard(Record):
    """Description of the prepared data, for the report."""

    source: str
    evaluation_rows: int
    evaluation_tokens: int = 0
    calibration_rows: int
    choices: int = 0
    answers: int = 0
    evaluation_sha256: str
    calibration_sha256: str
    checks: tuple[str, ...]
    notes: tuple[str, ...] = ()  # what was left out, mended or guessed while the source was read

    @property
    def words(self) -> str:
        """The data in one line, for the terminal, and a line for each note."""
        more = f", {self.choices} choices, {self.answers} prompts to answer" if self.choices or self.answers else ""
        first = f"{self.source}: {self.evaluation_rows} rows to evaluate, {self.calibration_rows} to calibrate{more}"
        return "\n".join((first, *(f"  {note}" for note in self.notes)))


class ReferenceRequest(Record):
    """Let the unquantized model answer everything that variants will be asked."""

    kind: str
    threads: int
    model: Path
    data: Path
    out: Path
    settings: Evaluate


class CheckRequest(Record):
    """Look whether a fresh artifact is what it claims."""

    opening: Opening
    places: Places
    precision: Precision
    units: int  # tokens or examples of the probe; 0: all of it
    mixed: bool = False  # its types were chosen by what they cost: any of at most 8 bits will do
    transformed: bool = False  # the model itself was changed before: the distance tells little of the precision
    settings: Convert


class ScoreRequest(Record):
    """Score an artifact on the shared inputs until the gates are decided."""

    opening: Opening
    places: Places
    out: Path
    slow: bool  # the runtime lacks its accelerator here: few rows
    limits: tuple[Limit, ...]  # what the gates ask
    settings: Evaluate


class Answered(Record):
    """Outcome of letting a reference or an artifact answer, in words and counts."""

    words: str = ""
    looks: int = 1
    level: float = 0.95
    final: bool = True
    runtime: dict[str, str] = {}


class Checked(Record):
    """A check and the versions of what made and ran the artifact."""

    check: Check
    problem: str  # why the artifact must not be measured; empty when it may
    versions: dict[str, str]


class Packed(Record):
    """Settings by which a package is opened."""

    backend: str
    settings: dict[str, str]  # of the runtime, that differ from its defaults
    chat: bool  # whether it answers conversations
    threads: int


class Signature(Record):
    """Inputs and outputs of a loaded package. A type is "string", or a NumPy type with sizes: "float32[-1,4]"."""

    inputs: dict[str, str]
    outputs: dict[str, str]
    parameters: dict[str, int | float | str] = {}  # with their defaults
    classes: tuple[str, ...] = ()  # names of a classifier's, where they are known


class Predictor(Protocol):
    """A package that was loaded."""

    def predict(self, rows: Any, parameters: Mapping[str, Any]) -> Any:
        """Answer rows as MLflow hands them over; raises DataError for what it cannot read.

        Of models of named arrays None asks for the answer to an example of their own: whether they still answer.
        """
        ...


@dataclass(frozen=True)
class Prepared:
    """Data that was written, and every row of it as the data checks want it."""

    card: DataCard  # its checks are still to be made
    rows: Sequence[Mapping[str, Any]]  # split ("evaluation" or "calibration"), text, size, sha256
    sizes: tuple[int, int]  # the smallest and the largest size that a row may have
    unit: str  # of the size


@dataclass(frozen=True)
class Calibration:
    """Data that a quantizer may look at: texts of a language model, named arrays of the others."""

    texts: tuple[str, ...] = ()
    arrays: Sequence[Mapping[str, Any]] = ()


class Expanding(Protocol):
    """Bring a model of this kind in; asked by the stage `fetch`."""

    def recognises(self, model: str) -> bool:
        """Tell whether `fetch.model` names a model of this kind; cheap, opens no weights."""
        ...

    def refuse(self, params: Fetch) -> None:
        """Raise ModelError for what surely cannot be used, before anything runs."""
        ...

    def expand(self, params: Fetch, out: Path) -> Origin:
        """Write the unquantized checkpoint into the empty folder `out`; raises ModelError."""
        ...


class Describing(Protocol):
    """Describe a checkpoint of this kind; asked by the stage `assess`."""

    def describe(self, folder: Path) -> ModelProfile:
        """Describe the checkpoint without running it; raises ModelError."""
        ...


class Preparing(Protocol):
    """Prepare the data to score, time, probe and calibrate with; asked by the stages `data` and `convert`."""

    def refuse(self, params: Data) -> None:
        """Raise DataError for a source that cannot be used, before anything runs."""
        ...

    def prepare(self, params: Data, convert: Convert, model: Path, out: Path) -> Prepared:
        """Write all of it into folders of `out` (see `Places`); raises DataError for a source that is no good."""
        ...

    def calibration(self, data: Path) -> Calibration:
        """Read what a quantizer may look at."""
        ...


class Transforming(Protocol):
    """Change a checkpoint before it is converted, so that every runtime gets it; asked by the stage `convert`."""

    def transform(self, model: Path, recipe: Recipe, calibration: Calibration, out: Path, threads: int) -> None:
        """Write the changed checkpoint to `out`; raises UnsupportedError for a model that has not what is changed."""
        ...


class Checking(Protocol):
    """Check that a fresh artifact is what it claims; asked by the stage `convert`, in a child process."""

    def check(self, request: CheckRequest) -> Checked:
        """Compare the artifact with the reference on the probe."""
        ...


class Scoring(Protocol):
    """Measure how good an artifact is; asked by the stages `reference` and `evaluate`."""

    REFERENCE_BACKEND: str  # what runs the unquantized checkpoint
    SCORES: tuple[str, ...]  # files of a folder of scores; the reference's folder has them too

    def refer(self, request: ReferenceRequest) -> Answered:
        """Let the unquantized model answer everything (in a child process)."""
        ...

    def score(self, request: ScoreRequest) -> Answered:
        """Score an artifact until the gates are decided (in a child process)."""
        ...

    def summarise(self, scores: Path, reference: Path, level: float) -> dict[str, Any]:
        """Compare a folder of scores with the reference's: fields of the Evaluation."""
        ...

    def undecided(self, known: Evaluation, limits: Sequence[Limit]) -> tuple[str, ...]:
        """Metrics whose interval holds its limit; none once any limit is surely broken."""
        ...


class Timing(Protocol):
    """Make the requests that an artifact is measured with; asked by the stages `tune` and `benchmark`."""

    def workload(self, opening: Opening, data: Path, settings: Benchmark, brief: bool) -> Workload:
        """Load an artifact with its requests (in a child process); `brief`: those that tuning is about."""
        ...


class Packing(Protocol):
    """Add what people take home beside the model; asked by the stages `package` and `track`."""

    def companions(self, model: Path, out: Path) -> None:
        """Copy what belongs beside the model (a tokenizer) into the package's folder `out`; raises DataError."""
        ...

    def converses(self, model: Path) -> bool:
        """Tell whether the model answers conversations: a language model with a chat template."""
        ...


Form = Literal["generation", "texts", "pictures", "tensors"]


class Predicting(Protocol):
    """Open a package and answer with it; asked by a logged model and the server, without anything that made it."""

    SERVES: tuple[Form, ...]  # what a server of it reads: prompts to write after, or rows of these forms

    def signature(self, package: Path, packed: Packed) -> Signature:
        """Tell what a package takes and gives."""
        ...

    def open_package(self, package: Path, packed: Packed) -> Predictor:
        """Load a package that was verified."""
        ...
