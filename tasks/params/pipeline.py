"""What the stages of dvc.yaml are told: one block a stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tasks.params.base import Block, Count, Positive, Share
from tasks.params.registered import AUTO, registered_name
from tasks.records.terms import TRAINED_ROUNDING, Backend, ExpertsBy, Precision, Role

HOST = "host"  # the device that is this machine


class Device(Block):
    device: str = HOST  # or a profile of tasks/hardware/devices.yaml


class Accelerate(Block):
    """S10, S24: what shall run a model, and what it means where that is not there."""

    device: str = "auto"  # auto: what is there and faster | cpu | gpu | npu | as a runtime names it
    on_fallback: Literal["allow", "warn", "refuse"] = "warn"  # refuse: a gate on `fallbacks`, none allowed


class Fetch(Block):
    kind: str = "auto"  # of model: auto (told by its files), a name of tasks/kinds/table.py, or package.module
    model: str = "sample"  # sample | a Hugging Face directory | a .gguf file | a hub id
    revision: str | None = None
    allow_pickle: bool = False


FEWEST_SCORED = 2  # rows; an interval over rows needs two


class Data(Block):
    source: str = "gsm8k"  # gsm8k | a file of JSON lines, JSON, CSV, Parquet or text
    columns: dict[str, str] | None = None  # where the text is when its columns have names of their own: text: body
    calibration_source: str | None = None  # None: split from `source`
    evaluation_rows: Count = 40
    first_share: Annotated[float, Field(gt=0, le=1)] = 0.4  # of rows and choices: what every variant is scored on
    extra_share: Annotated[float, Field(ge=0, le=10)] = 0.25  # on top, where a gate is undecided without
    calibration_rows: Count = 32
    max_tokens: Annotated[int, Field(ge=8)] = 256
    prompts: Count = 12
    prompt_tokens_short: Count = 40
    prompt_tokens_long: Count = 256
    prompt_tokens_longest: Count = 640
    tasks: str | None = None  # a .jsonl file with the user's own tasks; None: made from `source`
    choices: Annotated[int, Field(ge=0)] = 200  # questions with four answers to choose from
    choice_prompt_tokens: Count = 40  # the last of each question
    choice_tokens: Count = 12  # the first of each answer
    answers: Annotated[int, Field(ge=0)] = 4  # prompts answered in words, side by side with the reference
    seed: int = 17

    @property
    def all_rows(self) -> int:
        """Evaluation rows with those that are scored only where a gate needs them."""
        return self.looks(self.evaluation_rows)[-1]

    def looks(self, sample: int) -> tuple[int, ...]:
        """Sizes of a sample at which it is asked whether the gates are decided, growing.

        >>> Data().looks(40)
        (16, 40, 50)
        >>> Data(first_share=1.0, extra_share=0.0).looks(40)
        (40,)
        """
        most = sample + round(sample * self.extra_share)
        return tuple(sorted({min(max(FEWEST_SCORED, round(sample * self.first_share)), most), sample, most}))


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
    slow_tokens: Annotated[int, Field(ge=2)] = 40  # the first of each row, for a slow runtime
    slow_choices: Annotated[int, Field(ge=0)] = 0  # questions with choices, for a slow runtime
    answer_tokens: Count = 32  # of each answer in words


class Benchmark(Block):
    limits: Limits = Limits()
    threads: Annotated[int, Field(ge=0)] = 0  # 0: the cores this process may use
    sessions: Count = 2  # every second goes through its blocks backwards
    more_sessions: Annotated[int, Field(ge=0)] = 1  # for variants whose speedup is not known within the margin
    max_speedup_margin: Positive = 0.2  # half of a speedup's interval, as a share
    rounds: Count = 2  # blocks of each variant in a session, each a fresh process
    reference_every: Count = 6  # blocks of other variants between two of the reference, at most
    repeats: Count = 2  # prompts per block for time to first token and prefill
    decode_repeats: Count = 1  # prompts per block for decode
    new_tokens: Annotated[int, Field(ge=2)] = 32
    soak_s: Annotated[float, Field(ge=0)] = 6.0  # seconds of requests one after another, for stability; 0: none
    energy: bool = True  # counted during the soak, of candidates and the reference
    callers: Count = 2  # that ask at the same time, under stress
    stress_tokens: Count = 768  # of the longest prompt under stress
    max_others_cores: Positive = 0.25  # CPU that other processes may take while something is timed
    retries: Annotated[int, Field(ge=0)] = 2  # how often a process is timed again when they take more


Weight = Annotated[float, Field(ge=0)]


class Recommend(Block):
    weights: dict[str, Weight] = {}  # by axis of the ranking; the kind of model knows them


class Bound(Block):
    """A gate's limit on a metric: at least `min`, or at most `max`."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _one(self) -> Bound:
        if (self.min is None) == (self.max is None):
            raise ValueError("give one of min and max; null in the place of both switches the gate off")
        return self


Gates = Mapping[str, Bound | None]  # by metric; None switches a gate off, one that is not named keeps its default


class Target(Device):
    """Where a winner is wanted for, and what differs there from the common gates and weights."""

    kind: str | None = None  # a name of tasks/targets/table.py, or package.module; None: it takes every variant
    gate: dict[str, Bound | None] = {}  # over the block `gate`
    weights: dict[str, Weight] = {}  # over recommend.weights
    budget_mb: Positive | None = None  # of its bundle, installed, everything counted; None: what its kind stands for
    options: dict[str, Any] = {}  # of its kind, see the head of its file in tasks/targets/


class Track(Block):
    experiment: str = "edgewright"
    model_name: str = AUTO  # auto: after fetch.model, so that another model has a champion of its own


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
    bits: Annotated[float, Field(ge=0, le=16)] = 0.0  # per weight on average, for methods of mixed types; 0: its own
    pace: Annotated[float, Field(ge=0, le=4)] = 0.0  # times as fast in writing as q8_0, for the same; 0: however slow
    experts: Annotated[float, Field(gt=0, le=1)] = 1.0  # share of each layer's experts that stays
    experts_by: ExpertsBy = "reap"  # what tells which
    channels: Annotated[float, Field(gt=0, le=1)] = 1.0  # share of each layer's channels that stays
    epochs: Annotated[int, Field(ge=0)] = 0  # passes over the training data, before it is converted
    quick: bool = False  # part of the quick profile

    @model_validator(mode="after")
    def _the_model_is_changed_itself(self) -> Variant:
        asked = {
            "experts": self.experts < 1, "channels": self.channels < 1, "epochs": self.epochs > 0,
            f"method: {TRAINED_ROUNDING}": self.method == TRAINED_ROUNDING,
        }  # fmt: skip
        named = [name for name, wanted in asked.items() if wanted]
        if named and self.source != "model":
            raise ValueError(f"`{named[0]}` changes the model itself: `source` must be model, not {self.source!r}")
        return self

    @model_validator(mode="after")
    def _what_was_taken_out_is_made_good(self) -> Variant:
        if (self.channels < 1 or self.method == TRAINED_ROUNDING) and not self.epochs:
            raise ValueError("`channels` and `method: qat` need `epochs`: passes over the training data")
        return self

    @model_validator(mode="after")
    def _bits_where_types_are_mixed(self) -> Variant:
        if bool(self.bits or self.pace) != self.method.startswith("mixed"):
            raise ValueError(
                f"`bits` and `pace` go with methods of mixed types, not with {self.method!r}; such a method needs one"
            )
        return self


def refuse_old_gates(gate: Any, where: str = "gate") -> None:
    """Raise ValueError with the new form of gates that are named by their bounds, as they were before."""
    renamed = []
    for key, value in gate.items() if isinstance(gate, Mapping) else ():
        bound, _, metric = str(key).partition("_")
        if bound in ("min", "max") and metric:
            shown = "null" if value is None else f"{{{bound}: {value}}}"
            renamed.append(f"{where}.{key} is now {where}.{metric}: {shown}")
    if renamed:
        raise ValueError(f"gates are named by their metric: {'; '.join(renamed)}")


def check_names(what: str, names: Iterable[str]) -> None:
    """Raise ValueError for a name that could not be part of a file's name."""
    for name in names:
        if not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{what} name {name!r}: use letters, digits, '-' and '_' only")


class Params(Block):
    """Parameters of the stages, after the profile's changes; tasks/params/whole.py adds the blocks of no stage."""

    profile: Literal["full", "quick"] = "full"
    profiles: dict[Literal["quick"], dict[str, Any]] = {}
    targets: dict[str, Target] = {}  # by name; the first is the one that is packaged and registered
    target: Device | None = Field(default=None, validate_default=True)  # in short, of one target; None beside targets
    fetch: Fetch = Fetch()
    data: Data = Data()
    assess: Assess = Assess()
    convert: Convert = Convert()
    tune: Tune = Tune()
    accelerate: Accelerate = Accelerate()
    evaluate: Evaluate = Evaluate()
    benchmark: Benchmark = Benchmark()
    recommend: Recommend = Recommend()
    gate: dict[str, Bound | None] = {}
    track: Track = Track()
    variants: dict[str, Variant]

    @field_validator("targets", mode="before")
    @classmethod
    def _gates_of_targets(cls, targets: Any) -> Any:
        for name, target in targets.items() if isinstance(targets, Mapping) else ():
            if isinstance(target, Mapping):
                refuse_old_gates(target.get("gate"), f"targets.{name}.gate")
        return targets

    @field_validator("targets")
    @classmethod
    def _this_machine_first(cls, targets: dict[str, Target]) -> dict[str, Target]:
        check_names("target", targets)
        here = [name for name, target in targets.items() if target.device == HOST]
        if here and next(iter(targets)) != here[0]:
            raise ValueError(f"{here[0]!r} is this machine, on which all is timed: name it first")
        return targets

    @field_validator("target")
    @classmethod
    def _one_form(cls, target: Device | None, info: ValidationInfo) -> Device | None:
        if not info.data.get("targets"):
            return target or Device()
        if target is not None:
            named = ", ".join(info.data["targets"])
            raise ValueError(
                f"params name targets too ({named}); keep one form: remove `target` (and TARGET= from the command), "
                f"or `targets`; in that, `name: {{device: {target.device}}}` says the same"
            )
        return None

    @field_validator("gate", mode="before")
    @classmethod
    def _named_by_metric(cls, gate: Any) -> Any:
        refuse_old_gates(gate)
        return gate

    @field_validator("profiles")
    @classmethod
    def _profiles_too(cls, profiles: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, changes in profiles.items():
            refuse_old_gates(changes.get("gate"), f"profiles.{name}.gate")
        return profiles

    @field_validator("variants")
    @classmethod
    def _one_reference(cls, variants: dict[str, Variant]) -> dict[str, Variant]:
        references = [name for name, variant in variants.items() if variant.role == "reference"]
        if len(references) != 1:
            raise ValueError(f"exactly one variant must have role: reference, found {references or 'none'}")
        check_names("variant", variants)
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
    def named_targets(self) -> dict[str, Target]:
        """All targets by name, the first one first; the short form is one target with the name of its device."""
        device = self.target.device if self.target is not None else HOST
        return self.targets or {device: Target(device=device)}

    @property
    def first_target(self) -> str:
        """Name of the target whose winner is packaged and registered."""
        return next(iter(self.named_targets))

    def for_target(self, name: str | None = None) -> Self:
        """The parameters with the gates and weights of one target in place of the common ones; None: of the first."""
        target = self.named_targets[name or self.first_target]
        weights = Recommend(weights=self.recommend.weights | target.weights)
        refused = {"fallbacks": Bound(max=0)} if self.accelerate.on_fallback == "refuse" else {}
        return self.model_copy(update={"gate": refused | self.gate | target.gate, "recommend": weights})

    @property
    def registered_name(self) -> str:
        """Name of the registered model."""
        return registered_name(self.track.model_name, self.fetch.model)

    @property
    def reference(self) -> str:
        """Name of the variant everything is compared with."""
        return next(name for name, variant in self.variants.items() if variant.role == "reference")

    @property
    def shown_first(self) -> tuple[str, ...]:
        """The reference and the variants marked `quick`, of which a long run shows figures before it is over."""
        return tuple(name for name, variant in self.variants.items() if variant.quick or name == self.reference)
