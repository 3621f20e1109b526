"""Frozen records that cross stage borders, as JSON files. Units are part of every name."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from tasks.errors import DataError

T = TypeVar("T")

Status = Literal["ok", "skipped", "failed"]
Backend = Literal["torch", "openvino", "onnx", "gguf", "mlx"]
Framework = Literal["openvino", "olive", "llama.cpp", "mlx"]
Precision = Literal["fp32", "bf16", "fp16", "int8", "int4"]
Role = Literal["reference", "rival", "candidate"]
# unreachable: failed, and a physical limit of this device proves that nothing of the kind could pass on it
Outcome = Literal["pass", "fail", "inconclusive", "unreachable"]

FRAMEWORK_OF: dict[str, Framework | None] = {
    "torch": None,
    "openvino": "openvino",
    "onnx": "olive",
    "gguf": "llama.cpp",
    "mlx": "mlx",
}


class Record(BaseModel):
    """A frozen value with a JSON file form; unknown keys are refused when read back."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the record at `path`; raises DataError naming the file when it is absent or broken."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise DataError(f"{path} does not exist; run the stage that writes it (`dvc repro`)") from None
        except ValidationError as error:
            raise DataError(f"{path} is not a {cls.__name__}: {error}; delete it and run `dvc repro`") from error

    def write(self, path: Path) -> None:
        """Write the record whole or not at all: to a temporary name, then rename."""
        write_text(path, self.model_dump_json(indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class Reading(Record, Generic[T]):
    """One observed value, or the reason why it is unknown; never neither."""

    value: T | None = None
    reason: str = ""

    @model_validator(mode="after")
    def _value_or_reason(self) -> Self:
        if self.value is None and not self.reason:
            raise ValueError("a reading needs a value or a reason")
        return self


class Quantity(Record):
    """A repeated measurement: median, extremes, count and quartiles. The unit is in the field that holds it."""

    p50: float
    low: float
    high: float
    n: int
    q25: float | None = None  # quartiles, from four on
    q75: float | None = None

    @property
    def unsteadiness(self) -> float:
        """Distance of the quartiles / median, which more repetitions do not widen; the spread where there are few."""
        if self.q25 is None or self.q75 is None:
            return self.spread
        return (self.q75 - self.q25) / self.p50 if self.p50 else 0.0

    @property
    def spread(self) -> float:
        """(high - low) / median, the share by which the repetitions differ."""
        return (self.high - self.low) / self.p50 if self.p50 else 0.0


class Cache(Record):
    level: int
    kind: Literal["data", "instruction", "unified"]
    size_kb: int


class Accelerator(Record):
    """A device beside the CPU, or a runtime's way to one. `available` False carries the reason."""

    kind: Literal["gpu", "npu", "tpu", "cpu-provider"]
    name: str
    runtime: str  # "cuda", "openvino", "onnxruntime", "metal", ...
    available: bool
    reason: str = ""
    memory_mb: int | None = None


class Hardware(Record):
    """What a target device is. Only what stays the same from run to run on one machine."""

    device: str  # "host" or the profile's name
    origin: Literal["detected", "profile"]
    family: Literal[
        "intel", "amd", "nvidia", "apple-silicon", "apple-mobile", "arm-mobile", "arm-embedded", "edge-tpu",
        "cloud-edge", "generic",
    ]  # fmt: skip
    description: str
    machine_id: Reading[str]  # a digest, so that numbers of one machine are not taken for another's
    operating_system: Reading[str]  # linux, darwin, windows, ios, android
    architecture: Reading[str]  # x86_64, arm64
    cpu_model: Reading[str]
    isa: Reading[tuple[str, ...]]  # lower case: avx2 avx512f avx512_vnni avx512_bf16 amx_int8 asimddp i8mm ...
    physical_cores: Reading[int]
    usable_cores: Reading[int]  # after affinity and container limits
    caches: Reading[tuple[Cache, ...]]
    memory_mb: Reading[int]  # what a process may use: container limits respected
    disk_total_mb: Reading[int]
    accelerators: tuple[Accelerator, ...] = ()
    power_budget_w: Reading[float]

    @property
    def is_host(self) -> bool:
        """Whether numbers measured here are numbers of this device."""
        return self.origin == "detected"


class Conditions(Record):
    """The machine's state at one moment; it changes from run to run."""

    when: str  # UTC, ISO 8601
    load_1m: Reading[float]
    memory_free_mb: Reading[int]
    disk_free_mb: Reading[int]
    cpu_mhz: Reading[float]
    temperature_c: Reading[float]
    on_battery: Reading[bool]
    network: Reading[bool]


class Disturbance(Record):
    """What the rest of the machine did while something was timed."""

    seconds: float
    others_cores: float  # CPU time of other processes over the time passed
    stolen_cores: float | None  # the same, taken by the hypervisor; None where the system does not tell
    waited_s: float | None  # time the timed threads were ready but had no core

    @property
    def taken_cores(self) -> float:
        """All that was taken from what was timed."""
        return self.others_cores + (self.stolen_cores or 0.0)


class Support(Record):
    """Whether something can be done, and why or why not."""

    ok: bool
    reason: str


class ModelProfile(Record):
    """What a model is (S3), read from its configuration and weights, without running it."""

    name: str
    source: str  # as the user named it
    origin: str  # where the weights came from, in words, for the model card
    sha256: str  # over the weight files, in name order
    modality: Literal["causal-lm", "text-encoder", "image-classifier"]
    architecture: str
    parameters: int
    size_mb: float
    dtype: str
    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context_length: int
    tied_embeddings: bool
    linear_input_sizes: tuple[int, ...]  # distinct input widths of linear layers: what group sizes must divide
    memory_mb: dict[str, float]  # estimated weights + KV cache at full context, per precision
    compatibility: dict[str, Support]  # per framework


class FrameworkChoice(Record):
    rank: int
    framework: Framework
    score: float
    reasons: tuple[str, ...]
    support: Support


class Selection(Record):
    """Frameworks in the order in which they suit target, model and requirements (S2, S4)."""

    device: str
    path: tuple[str, ...]  # the decision tree, question by question
    ranking: tuple[FrameworkChoice, ...]


class Recipe(Record):
    """How a variant is made, after the policy adapted it to model and target (S9)."""

    backend: Backend
    precision: Precision
    role: Role
    method: str
    group_size: int
    symmetric: bool
    ratio: float  # share of layers at the low precision; the rest is int8
    reasons: tuple[str, ...] = ()


class PlanEntry(Record):
    """What happens to one variant, and why."""

    variant: str
    action: Literal["run", "intermediate", "skip"]  # intermediate: made because another is made from it, not measured
    reason: str
    source: str  # "model", or "variants/NAME"
    recipe: Recipe
    speed_on_device: Support  # ok: timings made here are timings of the target

    @property
    def slow_here(self) -> bool:
        """Whether the runtime lacks its accelerator on this machine: MLX without Metal does some tokens a second."""
        return self.recipe.backend == "mlx" and not self.speed_on_device.ok


class Check(Record):
    """The sanity check every artifact passes before it is measured."""

    mean_kl: float  # nats, against the reference on the probe text
    kl_limit: float
    top_agreement: float
    probe_tokens: int
    text: str  # greedy continuation
    tensor_share: dict[str, float]  # type -> share of the weight bytes, counted in the file
    precision_found: str


class Artifact(Record):
    """Result of `convert`: the files of one variant, or the reason why there are none."""

    variant: str
    status: Status
    reason: str
    command: str  # repeats this conversion alone
    recipe: Recipe
    size_mb: float | None = None
    files: tuple[str, ...] = ()
    check: Check | None = None
    seconds: float | None = None
    versions: dict[str, str] = {}


class Paired(Record):
    """How many times as fast as the reference in one phase, from blocks timed in turns with it."""

    value: float  # median of the paired ratios
    low: float  # confidence interval over blocks, 95% over all looks at growing data together
    high: float
    blocks: int
    pairs: int
    floor: float | None = None  # share by which the reference was from itself in that session; an effect within is none


class Trial(Record):
    """One change to a runtime's settings, timed in turns with the defaults."""

    settings: dict[str, str]
    speedups: dict[str, float] = {}  # phase -> times as fast as with the defaults
    reason: str = ""  # why there are none


class Tuned(Record):
    """Runtime settings of one backend's candidates (S10)."""

    backend: Backend
    variant: str  # the candidate that was timed; empty when there is none
    reason: str
    command: str
    settings: dict[str, str] = {}  # that differ from the defaults
    gain: dict[str, Paired] = {}  # phase -> times as fast as with the defaults, of the combination looked at closely
    trials: tuple[Trial, ...] = ()
    seconds: float = 0.0
    key: str = ""  # digest of all the outcome depends on


class Evaluation(Record):
    """Result of `evaluate`: quality on the shared token ids against the reference on the same rows."""

    variant: str
    status: Status
    reason: str
    command: str
    reference: str
    rows: int = 0
    predictions: int = 0
    perplexity: float | None = None
    perplexity_se: float | None = None
    perplexity_ratio: float | None = None
    perplexity_ratio_se: float | None = None  # paired, over rows
    next_token_accuracy: float | None = None
    retention: float | None = None  # accuracy / the reference's accuracy on the same rows
    retention_se: float | None = None  # paired, over rows
    top_agreement: float | None = None
    top_agreement_se: float | None = None
    mean_kl: float | None = None  # nats per prediction, KL(reference || variant)
    mean_kl_se: float | None = None
    median_kl: float | None = None
    p99_kl: float | None = None  # None: too few predictions to tell
    choices: int = 0  # items with continuations to choose from
    task_accuracy: float | None = None
    task_retention: float | None = None  # right choices / the reference's on the same items
    task_retention_low: float | None = None  # paired bootstrap interval over items
    task_retention_high: float | None = None
    flips_lost: int = 0  # the reference chose right and the variant did not
    flips_gained: int = 0
    mcnemar_p: float | None = None  # two-sided mid-p value: flips are equally likely both ways
    answers: int = 0  # prompts answered in words
    answer_similarity: float | None = None  # to the reference's answers, 0 to 1
    answer_similarity_expected: float | None = None  # to the user's own
    looks: int = 1  # how often it was asked whether what was scored is enough
    level: float = 0.95  # confidence level of intervals at that look: 95% over all looks together
    final: bool = True  # nothing was left to score
    key: str = ""  # digest of all that the scores depend on
    subset: bool = False  # True when a slow runtime was scored on fewer rows
    seconds: float | None = None
    runtime: dict[str, str] = {}  # properties read back from the runtime that scored


class Change(Record):
    """How much something changed while an artifact was soaked, as a share of its median (Theil-Sen)."""

    value: float
    low: float  # 95% confidence interval
    high: float
    p: float  # Mann-Kendall: that there is no trend


class Endurance(Record):
    """Stability over a soak, and what went wrong under stress."""

    seconds: float
    requests: int
    latency: Change | None  # None: too few requests to tell
    memory: Change | None
    callers: int  # that asked at the same time
    long_prompt_tokens: int
    failures: tuple[str, ...] = ()  # under stress
    busy: str = ""  # why the soak decides nothing


class Energy(Record):
    """Energy of writing (S6, S27)."""

    joules_per_token: Quantity
    source: str  # what was read
    estimated: bool  # no counter could be read: power of the data sheet times load
    busy: str = ""


class Benchmark(Record):
    """Result of `benchmark`: speed and memory of one variant in fresh processes."""

    variant: str
    status: Status
    reason: str
    command: str
    speed: Support  # not ok: speed was not measured on this device, with the reason
    threads: int = 0
    load_s: Quantity | None = None
    first_call_ms: Quantity | None = None  # a short prompt and its first tokens, right after loading
    time_to_first_token_ms: Quantity | None = None
    prefill_tokens_per_s: Quantity | None = None
    decode_tokens_per_s: Quantity | None = None
    prefill_longest_tokens_per_s: Quantity | None = None
    decode_long_tokens_per_s: Quantity | None = None  # after the longest prompt
    batch_tokens_per_s: Quantity | None = None  # some prompts at once, all their new tokens over the whole time
    inter_token_ms: Quantity | None = None  # time between two tokens, over all decoded ones
    inter_token_p95_ms: float | None = None  # None: too few tokens to tell
    inter_token_p99_ms: float | None = None
    inter_token_cv: float | None = None  # standard deviation over mean
    prompt_tokens_short: int = 0
    prompt_tokens_long: int = 0
    new_tokens: int = 0
    peak_rss_mb: float | None = None  # whole process, high-water mark
    idle_rss_mb: float | None = None  # the same process with its imports, before the model
    artifact_mb: float | None = None
    endurance: Endurance | None = None  # of candidates
    energy: Energy | None = None  # of candidates and the reference
    energy_reason: str = ""  # why there is none
    runtime: dict[str, str] = {}  # execution and KV precision as really used
    settings: dict[str, str] = {}  # tuned ones, that differ from the runtime's defaults
    before: Conditions | None = None
    after: Conditions | None = None
    disturbance: Disturbance | None = None  # of the worst of the timed processes that count
    final: bool = True  # no session was left that could decide a gate
    discarded: int = 0  # timed processes thrown away because others were at work
    busy: str = ""  # why the speeds decide nothing: a busy machine, or a process that ended too early
    blocks: int = 0  # fresh processes that were timed and count
    paired: dict[str, Paired] = {}  # phase -> speedup; none where too few blocks count
    key: str = ""  # digest of all the figures depend on: with the same key nothing is timed again
    seconds: float | None = None


class Ceiling(Record):
    """What this machine can do at most: no runtime on it is faster."""

    threads: int
    memory_gb_s: Quantity  # reading, 1e9 bytes
    gflop_s: dict[str, Quantity]  # matrix products per type, 1e9 operations; int8 counts alike
    reasons: dict[str, str] = {}  # types that could not be measured
    disturbance: Disturbance
    busy: str = ""  # why the machine was too busy to trust this
    command: str


Bound = Literal["memory-bound", "compute-bound", "overhead-bound", "inconsistent", "unknown"]


class Closeness(Record):
    """How close a variant comes to the ceilings, and what holds it back."""

    variant: str
    decode_gb_s: float  # weights read per second
    decode_share: float  # of the memory bandwidth
    decode_bound: Bound
    prefill_gflop_s: float
    prefill_share: float | None  # of the matrix throughput in `arithmetic`
    prefill_bound: Bound
    arithmetic: str


class Metric(Record):
    """One cell of the scorecard: a value, or why there is none.

    `missing` is a fault (a gate on it fails); `not-measured` is known beforehand (a gate on it is inconclusive).
    """

    value: float | None = None
    se: float | None = None
    low: float | None = None  # ends of the 95% confidence interval, where the sample gives one
    high: float | None = None
    units: int | None = None  # what the interval is over: rows, or pairs of measurements
    n: int | None = None
    state: Literal["measured", "missing", "not-measured"] = "measured"
    reason: str = ""
    bound: float | None = None  # what this device allows at most, by a physical limit
    bound_reason: str = ""
    undecided: str = ""  # why the sample is too small to decide anything; a gate on it is inconclusive


class ScoreRow(Record):
    """Everything known of one variant, one row of the scorecard."""

    variant: str
    role: Role
    backend: Backend
    precision: Precision
    status: Status
    reason: str
    metrics: dict[str, Metric]


class Ranked(Record):
    variant: str
    rank: int
    utility: float  # 0..1 by the user's weights
    on_front: bool
    reason: str


class Stride(Record):
    """Where a framework stands after one step; speedups and shares are against the reference. None: not known."""

    step: Literal["reference", "converted", "quantized", "accelerated"]
    variant: str
    decode_speedup: float | None = None
    prefill_speedup: float | None = None
    memory_share: float | None = None
    perplexity_ratio: float | None = None
    retention: float | None = None
    note: str = ""


class Progress(Record):
    """Progressive optimization of one framework (S7): what each step gained or lost."""

    backend: Backend
    variant: str  # the candidate it leads to
    strides: tuple[Stride, ...]


class Recommendation(Record):
    """Scorecard, Pareto front and ranking (S17)."""

    reference: str
    rows: tuple[ScoreRow, ...]
    front: tuple[str, ...]
    ranking: tuple[Ranked, ...]
    reason: str
    closeness: tuple[Closeness, ...] = ()  # of the variants measured on this device
    progress: tuple[Progress, ...] = ()  # per framework, as far as its steps were made


class Expectation(Record):
    """One gate on one variant: what was observed, what was allowed, what follows."""

    gate: str
    metric: str
    against: str
    observed: float | None
    low: float | None = None  # ends of the interval that decided; None: one number, taken as it is
    high: float | None = None
    minimum: float | None
    maximum: float | None
    outcome: Outcome
    reason: str
    miss: float | None = None  # share by which the limit was missed; None when it was kept


class Verdict(Record):
    variant: str
    outcome: Outcome
    expectations: tuple[Expectation, ...]


class GateReport(Record):
    """Verdicts of all variants, the winner among those that passed, else the nearest."""

    outcome: Outcome
    reason: str
    winner: str | None
    verdicts: tuple[Verdict, ...]
    nearest: tuple[str, ...]  # candidates by how little they missed, when nothing passed
    results_digest: str  # sha256 over the scorecard the verdicts were made from


class Package(Record):
    """The winner's folder, or why there is none."""

    status: Status
    reason: str
    variant: str | None
    verdict: Outcome
    size_mb: float = 0.0
    manifest_sha256: str = ""


def to_jsonable(record: Record) -> dict[str, Any]:
    """The record as plain JSON values."""
    return record.model_dump(mode="json")


class LoadStep(Record):
    """What one rate of a load test brought; times in milliseconds, none where the sample cannot carry them."""

    rate: float  # requests per second that were meant to leave
    planned_s: float  # for so long they were to leave
    seconds: float  # from the first that left to the last that came back
    requests: int
    errors: dict[str, int]
    achieved: float  # requests per second that came back whole
    tokens_per_s: float
    first_ms_p50: float | None
    first_ms_p95: float | None
    between_ms_p50: float | None
    between_ms_p95: float | None
    whole_ms_p95: float | None
    late_ms_p95: float | None  # of the load itself: past some milliseconds this machine is too busy to measure

    @property
    def error_rate(self) -> float:
        """Share of requests that did not come back whole."""
        return sum(self.errors.values()) / self.requests if self.requests else 0.0
