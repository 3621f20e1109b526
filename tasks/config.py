"""params.yaml, typed once: strict, frozen, unknown keys refused. Nothing else in the project reads that file."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tasks.errors import ConfigError
from tasks.records import Backend, Precision, Role

PARAMS = Path("params.yaml")
# Blocks a profile may change: the stages that read them depend on `profiles` in dvc.yaml (tested there).
OF_PROFILES = ("data", "tune", "evaluate", "benchmark", "gate")

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Block(BaseModel):
    """One block of params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Target(Block):
    device: str = "host"


class Fetch(Block):
    model: str = "sample"  # sample | a Hugging Face directory | a .gguf file | a hub id
    revision: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False


class Data(Block):
    source: str = "gsm8k"  # gsm8k | a .jsonl file with "text" (or "question" and "answer") | a .txt file
    calibration_source: str | None = None  # None: split from `source`
    evaluation_rows: Count = 40
    more: Annotated[float, Field(ge=0, le=10)] = 0.5  # rows and choices beyond these, as a share, where gates need them
    calibration_rows: Count = 32
    max_tokens: Annotated[int, Field(ge=8)] = 256
    prompts: Count = 12
    prompt_tokens_short: Count = 40
    prompt_tokens_long: Count = 256
    prompt_tokens_longest: Count = 640
    tasks: str | None = None  # a .jsonl file with the user's own tasks; None: made from `source`
    choices: Annotated[int, Field(ge=0)] = 200  # questions with four answers to choose from
    choice_prompt_tokens: Count = 40  # of each question its last tokens,
    choice_tokens: Count = 12  # of each answer its first
    answers: Annotated[int, Field(ge=0)] = 4  # prompts answered in words, side by side with the reference
    seed: int = 17

    @property
    def all_rows(self) -> int:
        """Evaluation rows with those that are scored only where a gate needs them."""
        return self.evaluation_rows + round(self.evaluation_rows * self.more)


class Requirements(Block):
    """S2: how much each trait matters, 0 to 1."""

    cross_platform: Share = 0.5
    enterprise_integration: Share = 0.3
    mobile: Share = 0.2
    real_time: Share = 0.7
    model_diversity: Share = 0.3
    ease_of_use: Share = 0.5


class Assess(Block):
    frameworks: Literal["auto", "all"] | tuple[str, ...] = "auto"
    stage: Literal["production", "prototyping", "enterprise"] = "production"
    requirements: Requirements = Requirements()

    @field_validator("frameworks", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class Limits(Block):
    """Bounds on a child process."""

    timeout_s: Positive = 1800.0
    memory_mb: Positive = 16000.0


class Convert(Block):
    limits: Limits = Limits()
    probe_tokens: Count = 192
    slow_probe_tokens: Count = 32
    max_kl: dict[Precision, float] = {"fp32": 0.02, "bf16": 0.05, "fp16": 0.05, "int8": 0.2, "int4": 1.0}


class Tune(Block):
    budget_s: Annotated[float, Field(ge=0)] = 60.0  # for each backend's settings; 0: their defaults


class Evaluate(Block):
    limits: Limits = Limits()
    slow_rows: Annotated[int, Field(ge=2)] = 4  # rows for a runtime that is slow on this device (MLX without Metal)
    slow_tokens: Annotated[int, Field(ge=2)] = 64  # and of each its first tokens
    slow_choices: Annotated[int, Field(ge=0)] = 0  # and questions to choose the answer of
    answer_tokens: Count = 32  # of each answer in words


class Benchmark(Block):
    limits: Limits = Limits()
    threads: Annotated[int, Field(ge=0)] = 0  # 0: the cores this process may use
    sessions: Count = 2  # every second goes through its blocks backwards
    more_sessions: Annotated[int, Field(ge=0)] = 1  # for variants whose speedup is not known within `precision`
    precision: Positive = 0.2
    rounds: Count = 2  # blocks of each variant in a session, each a fresh process
    apart: Count = 6  # blocks of other variants between two of the reference, at most
    repeats: Count = 2  # prompts per block for time to first token and prefill
    decode_repeats: Count = 1  # prompts per block for decode
    new_tokens: Annotated[int, Field(ge=2)] = 32
    soak_s: Annotated[float, Field(ge=0)] = 6.0  # seconds of requests one after another, for stability; 0: none
    energy_s: Annotated[float, Field(ge=0)] = 4.5  # seconds of requests while energy is counted; 0: none
    callers: Count = 2  # that ask at the same time, under stress
    stress_tokens: Count = 768  # of the longest prompt under stress
    max_others_cores: Positive = 0.25  # CPU that other processes may take while something is timed
    retries: Annotated[int, Field(ge=0)] = 2  # how often a process is timed again when they take more


class Weights(Block):
    """What the user wants most, any scale; they are normalised."""

    quality: Annotated[float, Field(ge=0)] = 0.1
    decode: Annotated[float, Field(ge=0)] = 0.3
    prefill: Annotated[float, Field(ge=0)] = 0.3
    memory: Annotated[float, Field(ge=0)] = 0.3

    @model_validator(mode="after")
    def _some(self) -> Weights:
        if self.quality + self.decode + self.prefill + self.memory <= 0:
            raise ValueError("at least one weight must be above 0")
        return self


class Recommend(Block):
    weights: Weights = Weights()


class Gate(Block):
    """Limits per gate; None switches a gate off, and the report says so of those that are on by default."""

    @property
    def switched_off(self) -> tuple[str, ...]:
        """Gates that are on by default and None here."""
        fields = type(self).model_fields.items()
        return tuple(name for name, field in fields if field.default is not None and getattr(self, name) is None)

    min_retention: Share | None = 0.95
    max_perplexity_ratio: Positive | None = 1.10
    max_mean_kl: Positive | None = 0.20
    min_task_retention: Share | None = 0.90
    min_decode_speedup: Positive | None = 2.0
    min_prefill_speedup: Positive | None = 1.0
    min_decode_long_speedup: Positive | None = 1.0
    min_prefill_longest_speedup: Positive | None = None
    min_ttft_speedup: Positive | None = None
    min_batch_speedup: Positive | None = None
    max_tail_ratio: Positive | None = 3.0
    max_inter_token_cv: Positive | None = None
    max_latency_drift: Positive | None = 0.25
    max_memory_growth: Positive | None = 0.05
    max_stress_failures: Annotated[int, Field(ge=0)] | None = 0
    max_security_findings: Annotated[int, Field(ge=0)] | None = 0
    max_energy_share: Positive | None = None  # on by choice: no gate passes on an estimate
    max_artifact_share: Share | None = 0.50
    max_memory_share: Share | None = 0.50


class Track(Block):
    experiment: str = "edgewright"
    model_name: str = "edgewright-sample"


class Serve(Block):
    """The inference server; none of it changes an artifact."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080  # 0: any that is free
    slots: Annotated[int, Field(ge=1, le=64)] = 8
    queue: Annotated[int, Field(ge=0)] = 32
    context_tokens: Annotated[int, Field(ge=64)] = 1024
    new_tokens: Count = 128
    pace_ms: Annotated[float, Field(ge=0)] = 30.0  # between two pieces of a stream, at least
    deadline_s: Positive = 120.0
    body_kb: Count = 256
    probe_s: Positive = 5.0
    hang_s: Positive = 20.0
    drain_s: Positive = 30.0
    log_mb: Positive = 50.0
    log_files: Count = 5
    log_text: bool = False


class Promotion(Block):
    """How a new version takes over the traffic; none of it changes an artifact."""

    shares: Annotated[tuple[float, ...], Field(strict=False)] = (1.0, 5.0, 25.0, 50.0, 100.0)  # percent, step by step
    fewest: Count = (
        50  # requests of the new version, at least, before a phase or step is judged; a larger share needs more
    )
    real: Share = 0.5  # of them, at least, must be callers' own and not probes
    looks: Count = 5  # how often the evidence of one step is looked at before it is given up
    probes_per_s: Positive = 4.0
    mirror: Share = 0.2  # of the callers' requests that are asked again of both versions, to compare answers
    compare_tokens: Count = 24  # of those answers
    latency: Annotated[float, Field(gt=1)] = 1.25
    confidence: Share = 0.2
    agreement: Share = 0.3
    most_memory: Annotated[float, Field(gt=1)] = 1.5
    start_s: Positive = 120.0
    unready_s: Positive = 10.0
    hold_s: Positive = 20.0
    tick_s: Positive = 0.5
    reconcile_s: Positive = 60.0

    @field_validator("shares")
    @classmethod
    def _rising(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if not shares or list(shares) != sorted(set(shares)) or shares[0] <= 0 or shares[-1] != 100:
            raise ValueError("shares must be above 0, rise, and end with 100")
        return shares


class Rule(Block):
    """One alert: a figure of each window, and what must not be."""

    metric: str  # of monitoring.metrics, or "drift"
    kind: Literal["threshold", "rate", "absent", "drift", "burn"] = "threshold"
    above: float | None = None  # of a rate: times the median of the windows before
    below: float | None = None
    objective: Share | None = None  # of a burn: the share of requests that must go well
    windows: Count = 1  # in a row, before it is told
    severity: Literal["page", "warn"] = "warn"
    runbook: str  # what a person does first

    @model_validator(mode="after")
    def _whole(self) -> Rule:
        bounds = self.above is not None or self.below is not None
        if self.kind in ("threshold", "rate") and not bounds:
            raise ValueError(f"a rule of the kind {self.kind} needs above or below")
        if self.kind == "burn" and (self.objective is None or self.above is None):
            raise ValueError("a rule of the kind burn needs objective and above, how many times as fast as allowed")
        return self


class Drift(Block):
    """When prompts or answers are called others than those of the reference."""

    fewest: Count = 100  # requests of a window, before it is compared
    most: Count = 2000  # that are compared, drawn in strata
    reference: Count = 4000  # that are kept to compare with
    effect: Positive = 0.3  # how far a distribution must have moved, in standard deviations (Wasserstein)
    share: Positive = 0.15  # and a distribution of categories (Jensen and Shannon)
    accuracy: Share = 0.05  # right answers fewer than of the reference, as a share
    certainty: Annotated[float, Field(gt=0.5, lt=1)] = 0.999  # that it has moved at all, over all signals together


class Repair(Block):
    """What is done by itself when an alert fires."""

    enabled: bool = True  # the switch for all of it
    dry_run: bool = False  # say what would be done
    observe_s: Positive = 120.0  # before a step is judged
    better: Share = 0.2  # how much better the figure must be for a step to be kept, where the alert still fires
    cool_down_s: Annotated[float, Field(ge=0)] = 900.0  # between two repairs
    per_day: Annotated[int, Field(ge=0)] = 12  # steps


class Monitor(Block):
    """What is watched after promotion."""

    window_s: Positive = 300.0
    most_rows: Count = 1_000_000  # of the log in one window; of more, the newest
    shadow_rows: Annotated[int, Field(ge=0)] = 0  # answers of a window that the fp32 reference reads; 0: none
    price_per_hour: Annotated[float, Field(ge=0)] = 0.0
    notify: Annotated[tuple[str, ...], Field(strict=False)] = ()  # names of environment variables, each an address
    notices_per_hour: Count = 6  # others are told together, later
    rules: dict[str, Rule] = Field(default_factory=dict)
    drift: Drift = Drift()
    repair: Repair = Repair()


class Variant(Block):
    """One way to make the model small, as the user asks for it; the policy may adapt it to the model."""

    backend: Backend
    precision: Precision
    source: str = "model"  # what it is made from: "model", or "variants/NAME" of the same backend
    role: Role = "candidate"
    method: str = "default"
    group_size: Annotated[int, Field(ge=0)] = 0  # 0: the backend's own granularity
    symmetric: bool = False
    ratio: Share = 1.0
    quick: bool = False  # part of the quick profile


class Params(Block):
    """The whole of params.yaml after the profile's changes."""

    profile: Literal["full", "quick"] = "full"
    profiles: dict[Literal["quick"], dict[str, Any]] = {}
    target: Target = Target()
    fetch: Fetch = Fetch()
    data: Data = Data()
    assess: Assess = Assess()
    convert: Convert = Convert()
    tune: Tune = Tune()
    evaluate: Evaluate = Evaluate()
    benchmark: Benchmark = Benchmark()
    recommend: Recommend = Recommend()
    gate: Gate = Gate()
    track: Track = Track()
    serve: Serve = Serve()
    promotion: Promotion = Promotion()
    monitor: Monitor = Monitor()
    variants: dict[str, Variant]

    @field_validator("variants")
    @classmethod
    def _one_reference(cls, variants: dict[str, Variant]) -> dict[str, Variant]:
        references = [name for name, variant in variants.items() if variant.role == "reference"]
        if len(references) != 1:
            raise ValueError(f"exactly one variant must have role: reference, found {references or 'none'}")
        for name in variants:
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"variant name {name!r}: use letters, digits, '-' and '_' only")
        for name, variant in variants.items():
            base = variants.get(variant.source.removeprefix("variants/"))
            if variant.source != "model" and (
                base is None or base.backend != variant.backend or base.source != "model"
            ):
                raise ValueError(
                    f"{name}: source {variant.source!r} must be 'model' or 'variants/NAME', "
                    f"NAME a {variant.backend} variant made from the model"
                )
        return variants

    @property
    def reference(self) -> str:
        """Name of the variant everything is compared with."""
        return next(name for name, variant in self.variants.items() if variant.role == "reference")


def load(path: Path = PARAMS) -> Params:
    """Read and check params.yaml; raises ConfigError naming the key, the reason and what is allowed."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; run from the project's root") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold a mapping of blocks, found {type(raw).__name__}")
    return parse(raw, str(path))


def threads(params: Params) -> int:
    """Threads every runtime is given: the configured number, or the cores this process may use."""
    return params.benchmark.threads or usable_cores()


def shared_threads() -> int:
    """Threads for work that is not timed: EDGEWRIGHT_THREADS when the flow runs two such stages at once, else all."""
    return int(os.environ.get("EDGEWRIGHT_THREADS", "0")) or usable_cores()


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(cores())


def cores() -> tuple[int, ...]:
    """The same by their numbers."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def parse(raw: Mapping[str, Any], where: str = "params") -> Params:
    """Check a mapping as params; the profile's changes are applied first."""
    merged = _overlay(dict(raw), where)
    try:
        return Params.model_validate(_lists_to_tuples_ok(merged))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(where, merged, e) for e in error.errors())) from error


def changed(params: Params, block: str, values: Mapping[str, Any]) -> Params:
    """The parameters with some values of one block from a command line; raises ConfigError for one not allowed."""
    own = getattr(params, block).model_dump() | dict(values)
    return parse(params.model_dump(exclude={"profiles"}) | {block: own}, "command line")


def _overlay(raw: dict[str, Any], where: str) -> dict[str, Any]:
    profile = raw.get("profile", "full")
    changes = (raw.get("profiles") or {}).get(profile) or {}
    merged = dict(raw)
    for block, values in changes.items():
        if block not in OF_PROFILES or not isinstance(values, dict):
            raise ConfigError(
                f"{where}: profiles.{profile}.{block} must name a block that a profile may change, and its keys; "
                f"{_nearest(block, OF_PROFILES)}"
            )
        merged[block] = {**(raw.get(block) or {}), **values}
    return merged


def _lists_to_tuples_ok(raw: dict[str, Any]) -> dict[str, Any]:
    """A block written as an empty mapping (`gate:`) reads as None in YAML; take it as all defaults."""
    return {key: ({} if value is None and key in Params.model_fields else value) for key, value in raw.items()}


def _explain(where: str, raw: Mapping[str, Any], error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    dotted = ".".join(path)
    if error["type"] == "extra_forbidden":
        allowed = _allowed(path[:-1])
        return f"{where}: unknown parameter {dotted!r}; {_nearest(path[-1], allowed)}"
    if error["type"] == "missing":
        return f"{where}: {dotted!r} is missing; add it ({error['msg']})"
    return f"{where}: {dotted!r} = {error.get('input')!r}: {error['msg']}"


def _allowed(path: list[str]) -> list[str]:
    """Keys allowed in the block at `path`."""
    model: Any = Params
    for part in path:
        if model is Params and part == "variants":
            return list(Variant.model_fields)
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field is not None else None
    return list(getattr(model, "model_fields", {}))


def _nearest(key: str, allowed: Any) -> str:
    close = difflib.get_close_matches(key, list(allowed), n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(sorted(allowed))}"


def known_variant(params: Params, name: str) -> Variant:
    """The variant called `name`; raises ConfigError with the nearest name."""
    if name not in params.variants:
        raise ConfigError(f"unknown variant {name!r}; {_nearest(name, params.variants)}")
    return params.variants[name]
