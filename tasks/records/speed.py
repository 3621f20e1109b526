"""How fast, how large, how steady and how hungry a variant is, and what the machine can do at most."""

from __future__ import annotations

from tasks.records.base import Quantity, Record, Support
from tasks.records.hardware import Conditions, Disturbance
from tasks.records.terms import Backend, Status


class Paired(Record):
    """Speedup over the reference in one phase, from blocks timed in turns with it."""

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


class Change(Record):
    """Change of a figure while an artifact was soaked, as a share of its median (Theil-Sen)."""

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
    phases: dict[str, Quantity] = {}  # what was timed, by the names of the kind's metric catalogue, and some beside it
    values: dict[str, float] = {}  # what is one number: memory, size, percentiles that the sample carries
    sizes: dict[str, int] = {}  # of the timed requests, by name
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
    """Highest figures this machine reaches: no runtime on it is faster."""

    threads: int
    memory_gb_s: Quantity  # reading, 1e9 bytes
    gflop_s: dict[str, Quantity]  # matrix products per type, 1e9 operations; int8 counts alike
    reasons: dict[str, str] = {}  # types that could not be measured
    disturbance: Disturbance
    busy: str = ""  # why the machine was too busy to trust this
    command: str
