"""What each of several targets takes of the variants, and the plan of a variant as one target has it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks.params.pipeline import Params, Variant
from tasks.planning.plan import backends_of, speed_on_device, wish
from tasks.planning.policy import recipe
from tasks.planning.selection import ranked_backends, select
from tasks.records.base import Support
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import PlanEntry, Recipe, Selection
from tasks.records.targets import Fit

Accepts = Callable[[ModelProfile, Recipe], Support]


@dataclass(frozen=True)
class Place:
    """One target: its device, and what it says of a recipe."""

    name: str
    kind: str | None
    hardware: Hardware
    accepts: Accepts


def fit(params: Params, place: Place, model: ModelProfile) -> Fit:
    """Rank the frameworks for one target and say of each variant whether it takes it; raises ConfigError as plan does.

    What a kind of target refuses concerns candidates: the reference and the rivals are there to compare with.
    """
    selection = select(place.hardware, model, params.assess, ranked_backends(backends_of(params)))
    return Fit(
        target=place.name,
        device=place.hardware.device,
        kind=place.kind,
        selection=selection,
        takes={name: _takes(params, name, place, model, selection) for name in params.variants},
        speed={name: speed_on_device(variant, place.hardware) for name, variant in params.variants.items()},
    )


def _takes(params: Params, name: str, place: Place, model: ModelProfile, selection: Selection) -> Support:
    variant: Variant = params.variants[name]
    wanted = wish(variant, params, place.hardware, model, selection)
    if not wanted.ok or variant.role != "candidate":
        return wanted
    accepted = place.accepts(model, recipe(name, variant, model, place.hardware))
    return wanted if accepted.ok else Support(ok=False, reason=f"target {place.name}: {accepted.reason}")


def seen(entry: PlanEntry, fit: Fit) -> PlanEntry:
    """The plan of a variant as one target has it: skipped where that does not take it, timed where that is its device.

    A variant that only another target takes is made and scored all the same; here it cannot win.
    """
    takes, speed = fit.takes[entry.variant], fit.speed[entry.variant]
    if entry.action == "run" and not takes.ok:
        return entry.model_copy(update={"action": "skip", "reason": takes.reason, "speed_on_device": speed})
    return entry.model_copy(update={"speed_on_device": speed})
