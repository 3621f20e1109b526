"""Which candidates a search has on this machine: planned as variants are, and what none of them can fall below."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from typing import Any

from tasks.errors import ConfigError
from tasks.params.pipeline import Bound, Params, Variant
from tasks.planning.plan import plan
from tasks.planning.selection import ranked_backends, select
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import PlanEntry
from tasks.search.space import Prunable, least_bits, space
from tasks.search.wishes import Floor, Wishes


def with_candidates(params: Params, model: ModelProfile, wanted: Wishes, timings: Mapping[str, Any]) -> Params:
    """All candidates as variants, gates as the search's limits, and its own `timings` in the block `benchmark`."""
    gate: dict[str, Bound | None] = dict.fromkeys(wanted.known.names, None)
    for limit in wanted.limits:
        gate[limit.spec.name] = Bound(min=limit.minimum, max=limit.maximum)
    changes = {
        "variants": space(model.family, params.variants, _prunable(model)),
        "gate": gate,
        "profile": "full",
        "targets": {},
        "benchmark": params.benchmark.model_copy(update=dict(timings)),
    }
    return params.model_copy(update=changes)


def _prunable(model: ModelProfile) -> Prunable:
    return Prunable(experts=model.experts > 0, channels=model.training_rows > 0 and not model.untrainable)


def planned(
    params: Params, hardware: Hardware, model: ModelProfile, only: tuple[str, ...], own: Collection[str]
) -> tuple[dict[str, PlanEntry], dict[str, str]]:
    """Plan entries of what can be made and timed here, and why not of the others.

    Of equal recipes the one stays that the user has (`own`), or that is as its name says.
    """
    ranking = select(hardware, model, params.assess, ranked_backends())
    kept, why, seen = dict[str, PlanEntry](), dict[str, str](), dict[str, str]()

    def as_named(entry: PlanEntry) -> tuple[bool, bool]:
        return entry.variant not in own, params.variants[entry.variant].group_size != entry.recipe.group_size

    for entry in sorted(plan(params, hardware, model, ranking), key=as_named):
        recipe = entry.recipe.model_dump_json(exclude={"reasons"}) + entry.source
        wanted = not only or any(fnmatch(entry.variant, pattern) for pattern in only)
        if entry.recipe.role == "candidate" and not wanted:
            why[entry.variant] = f"not among search.only ({', '.join(only)})"
        elif entry.action == "skip":
            why[entry.variant] = entry.reason
        elif entry.recipe.role == "candidate" and not entry.speed_on_device.ok:
            why[entry.variant] = entry.speed_on_device.reason
        elif entry.recipe.role == "candidate" and recipe in seen:
            why[entry.variant] = f"here it is the same as {seen[recipe]}"
        else:
            seen[recipe] = entry.variant
            kept[entry.variant] = entry
    return kept, why


def floors(candidates: Mapping[str, Variant], model: ModelProfile) -> tuple[Floor, ...]:
    """What no candidate can be smaller than; raises ConfigError where there is no candidate at all."""
    if not candidates:
        raise ConfigError("no backend here can make a candidate of this model; see `make run DRY=1` for the reasons")
    least = least_bits(list(candidates.values()))
    mb = model.parameters * least / 8 / 1e6
    share = mb / model.size_mb if model.size_mb else 0.0
    by = f"the narrowest recipe here ({least:.3g} bits a weight, without scales)"
    return Floor("artifact_mb", mb, by), Floor("artifact_share", share, by)
