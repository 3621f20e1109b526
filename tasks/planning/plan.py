"""Decide what happens to every variant, and why (S9). Pure: one entry per variant, always all of them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from tasks.backends.table import backend
from tasks.backends.traits import AS_STORED
from tasks.errors import ConfigError
from tasks.params.pipeline import Params, Variant
from tasks.planning.policy import recipe
from tasks.planning.selection import converts, ranked_backends, runs_on
from tasks.records.base import Support
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import PlanEntry, Selection
from tasks.records.targets import Fit


def plan(
    params: Params, hardware: Hardware, model: ModelProfile, selection: Selection, fits: Sequence[Fit] = ()
) -> list[PlanEntry]:
    """Plan all variants in their order in params.yaml; raises ConfigError for an unknown framework or backend.

    `hardware` is that of the first target. Where `fits` names several, what any of them takes is made, once for all;
    the plan of a variant stays the same whoever else takes it, so that a further target redoes nothing.

    `assess.frameworks`: auto takes all that fit the target, a list those of the list that fit it, `all` also those that
    the target cannot run. An architecture that a framework does not know is skipped in each case.
    """
    check_frameworks(params)
    wanted = {
        name: _any(name, fits) if fits else wish(variant, params, hardware, model, selection)
        for name, variant in params.variants.items()
    }
    bases = {
        variant.source.removeprefix("variants/"): name
        for name, variant in reversed(params.variants.items())
        if wanted[name].ok and variant.source != "model"
    }
    return [
        PlanEntry(
            variant=name,
            action="run" if wanted[name].ok else "intermediate" if name in bases else "skip",
            reason=_reason(wanted[name], bases.get(name)),
            source=variant.source,
            recipe=recipe(name, variant, model, hardware),
            speed_on_device=_timed(name, fits, speed_on_device(variant, hardware)),
            slow_here=slow_without(variant) and not speed_on_device(variant, hardware).ok,
        )
        for name, variant in params.variants.items()
    ]


def _any(name: str, fits: Sequence[Fit]) -> Support:
    """What the first target that takes the variant says; else the first of all."""
    return next((fit.takes[name] for fit in fits if fit.takes[name].ok), fits[0].takes[name])


def _timed(name: str, fits: Sequence[Fit], here: Support) -> Support:
    """Whether a variant is timed: not where only targets on another device than the first one's take it."""
    on_device = [fit.takes[name] for fit in fits if fit.device == fits[0].device]
    if not here.ok or not fits or any(takes.ok for takes in on_device):
        return here
    return Support(ok=False, reason=f"not measured on this device: {on_device[0].reason}")


def backends_of(params: Params) -> list[str]:
    """Names of the variants' backends; raises ConfigError for one that is not known or is no backend."""
    for name, variant in params.variants.items():
        try:
            backend(variant.backend)
        except ConfigError as error:
            raise ConfigError(f"variants.{name}: {error}") from None
    return [variant.backend for variant in params.variants.values()]


def slow_without(variant: Variant) -> bool:
    """Tell whether the runtime of a variant is made for an accelerator."""
    return bool(backend(variant.backend).SLOW_WITHOUT)


def wish(variant: Variant, params: Params, hardware: Hardware, model: ModelProfile, selection: Selection) -> Support:
    """Tell whether a variant is to be made and measured, with the reason."""
    if variant.role == "reference":
        return Support(ok=True, reason="the reference everything is compared with")
    if params.profile == "quick" and not variant.quick:
        return Support(ok=False, reason="not part of the quick profile")
    one, chosen = backend(variant.backend), params.assess.frameworks
    framework, usable = one.FRAMEWORK, one.TRAITS.usable(variant, hardware)
    if not usable.ok and chosen != "all":
        return usable
    if framework is None:
        return Support(ok=True, reason="a rival in the reference's own framework")
    if isinstance(chosen, tuple) and framework not in chosen:
        return Support(ok=False, reason=f"{framework} is not in assess.frameworks ({', '.join(chosen)})")
    of_model, on_target = converts(one, hardware, model), runs_on(one.TRAITS, hardware)
    if not of_model.ok:
        return Support(ok=False, reason=f"{framework} cannot convert this model: {of_model.reason}")
    if variant.experts < 1 and not model.experts:
        return Support(ok=False, reason="this model has no experts, so that none can be left out")
    if variant.epochs and (model.untrainable or not model.training_rows):
        why = model.untrainable or "it came without training data of a kind that is trained here"
        return Support(ok=False, reason=f"this model cannot be trained: {why}")
    if variant.method == AS_STORED and one.TRAITS.as_stored(model) is None:
        came = f"its weights came as {model.stored}" if model.stored else "it did not come quantized"
        return Support(ok=False, reason=f"{framework} has no file of this model to run as it is: {came}")
    if not on_target.ok and chosen != "all":
        return Support(ok=False, reason=f"{framework} does not run on {hardware.device}: {on_target.reason}")
    rank = next((choice.rank for choice in selection.ranking if choice.framework == framework), None)
    place = f"{framework} ranks {rank} of {len(selection.ranking)} for {hardware.device}"
    kind = "; unquantized, to show what the runtime alone gives" if variant.role == "rival" else ""
    note = "" if on_target.ok else f"; made although {on_target.reason}"
    return Support(ok=True, reason=f"{place}{kind}{note}")


def speed_on_device(variant: Variant, hardware: Hardware) -> Support:
    """Tell whether timings made on this machine are timings of the target."""
    if not hardware.is_host:
        reason = f"not measured on this device: this machine is not {hardware.device}; run with TARGET=host on one"
        return Support(ok=False, reason=reason)
    wanted = backend(variant.backend).SLOW_WITHOUT
    if wanted and not any(a.runtime == wanted and a.available for a in hardware.accelerators):
        why = backend(variant.backend).TRAITS.slow_because or f"{variant.backend} is slow without {wanted}"
        return Support(ok=False, reason=f"not measured on this device: {why}")
    return Support(ok=True, reason="timed on this machine")


def _reason(wanted: Support, made_from_it: str | None) -> str:
    if wanted.ok or made_from_it is None:
        return wanted.reason
    return f"{wanted.reason}, but {made_from_it} is made from it"


def check_frameworks(params: Params) -> None:
    """Raise ConfigError for a framework in `assess.frameworks` that there is not, with the nearest name."""
    frameworks, known = params.assess.frameworks, tuple(ranked_backends(backends_of(params)))
    for name in frameworks if isinstance(frameworks, tuple) else ():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]!r}? " if close else ""
            allowed = f"auto, all, or a list of {', '.join(known)}"
            raise ConfigError(f"assess.frameworks: {name!r} is not known; {hint}allowed: {allowed}")
