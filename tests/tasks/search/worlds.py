"""A small world to search in: candidates whose figures follow a rule, and a bench that hands them out in no time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.kinds.table import catalogue
from tasks.params.pipeline import Bound, Variant
from tasks.records.search import Figure, Rung, Step
from tasks.search.coordinator import Coordinator
from tasks.search.strategies import strategy
from tasks.search.study import InMemory, opened
from tasks.search.wishes import WEIGHTS, Wishes, wishes

KNOWN = catalogue()
SPEED = {"onnx": 6.0, "gguf": 5.0, "openvino": 4.0}
SECONDS: Mapping[Rung, float] = {"made": 20.0, "glanced": 8.0, "scored": 10.0, "timed": 40.0}


def world() -> dict[str, Variant]:
    """Some thirty recipes of three backends."""
    found = {}
    for backend in SPEED:
        for precision in ("int8", "int4"):
            for group in (32, 64):
                for even in (True, False):
                    for ratio in (1.0, 0.8) if precision == "int4" and backend == "openvino" else (1.0,):
                        line = {"backend": backend, "precision": precision, "group_size": group, "symmetric": even}
                        name = f"{backend}-{precision}-{group}-{'sym' if even else 'asym'}-{ratio:g}"
                        found[name] = Variant.model_validate(line | {"ratio": ratio})
    return found


def truth(variant: Variant) -> dict[str, float]:
    """What is so of a recipe: few bits are fast, small and bad; groups and symmetry matter a little."""
    narrow = variant.ratio if variant.precision == "int4" else 0.0
    loss = 0.004 + 0.12 * narrow * (1.3 if variant.symmetric else 1.0) * (1.2 if variant.group_size == 64 else 1.0)
    mb = 145 - 55 * narrow + (4 if variant.group_size == 32 else 0)
    speed = SPEED[variant.backend] * (145 / mb) ** 0.6 * (1.03 if variant.symmetric else 1.0)
    return {
        "artifact_mb": mb, "artifact_share": mb / 540, "probe_distance": loss * 0.8, "probe_agreement": 1 - loss,
        "mean_kl": loss, "retention": 1 - loss / 4, "perplexity_ratio": 1 + loss / 2, "perplexity": 8 * (1 + loss / 2),
        "task_retention": 1 - loss / 8, "decode_speedup": speed,
        "prefill_speedup": 1.5 + (variant.backend == "openvino"),
        "decode_long_speedup": speed * 0.8, "tail_ratio": 1.3, "memory_share": mb / 900 + 0.15,
        "peak_rss_mb": mb + 120, "decode_tokens_per_s": speed * 18, "prefill_tokens_per_s": 900.0,
    }  # fmt: skip


OF: Mapping[Rung, tuple[str, ...]] = {
    "made": ("artifact_mb", "artifact_share", "probe_distance", "probe_agreement"),
    "scored": ("mean_kl", "retention", "perplexity_ratio", "perplexity", "task_retention"),
    "glanced": ("decode_speedup", "prefill_speedup"),
    "timed": (
        "decode_speedup", "prefill_speedup", "decode_long_speedup", "tail_ratio", "memory_share", "peak_rss_mb",
        "decode_tokens_per_s", "prefill_tokens_per_s",
    ),
}  # fmt: skip


@dataclass
class Table:
    """A bench of known figures, with noise and a clock of its own."""

    variants: Mapping[str, Variant]
    noise: float = 0.0  # standard deviation of a speed, as a share
    seed: int = 0
    failing: frozenset[str] = frozenset()
    done: list[tuple[str, Rung]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)  # timed again
    clock: float = 0.0

    def now(self) -> float:
        return self.clock

    def drop(self, name: str) -> None:
        self.dropped.append(name)

    def again(self, names: Sequence[str]) -> dict[str, Step]:
        self.repeated += names
        own, self.noise = self.noise, self.noise / 4
        kept, self.done = self.done, list(self.done)
        found = self.advance(names, "timed")
        self.noise, self.done = own, kept
        return found

    def advance(self, names: Sequence[str], rung: Rung) -> dict[str, Step]:
        self.clock += SECONDS[rung] * (len(names) if rung == "timed" else 1)
        found = {}
        for name in names:
            self.done.append((name, rung))
            if name in self.failing:
                found[name] = Step(rung=rung, ok=False, reason="it does not build", seconds=SECONDS[rung])
                continue
            dice = np.random.default_rng([self.seed, len(self.done)])
            told, figures = truth(self.variants[name]), {}
            for metric in OF[rung]:
                wide = {"timed": self.noise, "glanced": 2 * self.noise}.get(rung, 0.0)
                value = told[metric] * float(np.exp(dice.normal(0, wide))) if wide else told[metric]
                seen = 0.1 if rung == "glanced" else wide
                figures[metric] = Figure(value=value, low=value * (1 - 2 * seen), high=value * (1 + 2 * seen))
            found[name] = Step(rung=rung, ok=True, figures=figures, seconds=SECONDS[rung])
        return found


def asked(objective: str = WEIGHTS, **limits: dict[str, float] | None) -> Wishes:
    """Wishes over language models' metrics; gates are off unless named."""
    gate = dict.fromkeys(KNOWN.names, None) | {
        name: None if bound is None else Bound.model_validate(bound) for name, bound in limits.items()
    }
    return wishes(KNOWN, objective, gate, {}, {"quality": 0.1, "decode": 0.3, "prefill": 0.3, "memory": 0.3})


def searching(
    wanted: Wishes, bench: Table, seeds: Sequence[str] = (), way: str = "surrogate", **more: object
) -> Coordinator:
    """A search over the table, without a file."""
    chosen = strategy(way, bench.variants, seeds, wanted, 3)  # type: ignore[arg-type]
    settings: dict[str, object] = {
        "within_s": 1e9,
        "at_once": {"made": 2, "glanced": 4, "scored": 2, "timed": 4},
    } | more
    return Coordinator(wanted, chosen, bench, InMemory(), **settings)  # type: ignore[arg-type]


def trials(variants: Mapping[str, Variant]) -> list:
    """A fresh trial for each."""
    return opened(variants, [])
