"""Decide what happens to every variant, and why (S9). Pure: one entry per variant, always all of them."""

from __future__ import annotations

import difflib

from tasks.config import Params, Variant
from tasks.errors import ConfigError
from tasks.planning.policy import recipe, torch_bf16
from tasks.planning.selection import FRAMEWORKS, runs_on
from tasks.records import FRAMEWORK_OF, Hardware, ModelProfile, PlanEntry, Selection, Support


def plan(params: Params, hardware: Hardware, model: ModelProfile, selection: Selection) -> list[PlanEntry]:
    """Plan all variants in their order in params.yaml; raises ConfigError for an unknown framework's name.

    `assess.frameworks`: auto takes all that fit the target, a list those of the list that fit it, `all` also those that
    the target cannot run. An architecture that a framework does not know is skipped in each case.
    """
    _check_names(params.assess.frameworks)
    wanted = {name: wish(variant, params, hardware, model, selection) for name, variant in params.variants.items()}
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
            speed_on_device=speed_on_device(variant, hardware),
        )
        for name, variant in params.variants.items()
    ]


def wish(variant: Variant, params: Params, hardware: Hardware, model: ModelProfile, selection: Selection) -> Support:
    """Whether a variant is to be made and measured, with the reason."""
    if variant.role == "reference":
        return Support(ok=True, reason="the reference everything is compared with")
    if params.profile == "quick" and not variant.quick:
        return Support(ok=False, reason="not part of the quick profile")
    framework, chosen = FRAMEWORK_OF[variant.backend], params.assess.frameworks
    if framework is None:
        usable = torch_bf16(hardware) if variant.precision == "bf16" else Support(ok=True, reason="")
        if not usable.ok and chosen != "all":
            return usable
        return Support(ok=True, reason="a rival in the reference's own framework")
    if isinstance(chosen, tuple) and framework not in chosen:
        return Support(ok=False, reason=f"{framework} is not in assess.frameworks ({', '.join(chosen)})")
    of_model, on_target = model.compatibility[framework], runs_on(framework, hardware)
    if not of_model.ok:
        return Support(ok=False, reason=f"{framework} cannot convert this model: {of_model.reason}")
    if not on_target.ok and chosen != "all":
        return Support(ok=False, reason=f"{framework} does not run on {hardware.device}: {on_target.reason}")
    rank = next((choice.rank for choice in selection.ranking if choice.framework == framework), None)
    place = f"{framework} ranks {rank} of {len(selection.ranking)} for {hardware.device}"
    kind = "; unquantized, to show what the runtime alone gives" if variant.role == "rival" else ""
    note = "" if on_target.ok else f"; made although {on_target.reason}"
    return Support(ok=True, reason=f"{place}{kind}{note}")


def speed_on_device(variant: Variant, hardware: Hardware) -> Support:
    """Whether timings made on this machine are timings of the target."""
    if not hardware.is_host:
        reason = f"not measured on this device: this machine is not {hardware.device}; run with TARGET=host on one"
        return Support(ok=False, reason=reason)
    if variant.backend == "mlx" and not any(a.runtime == "metal" and a.available for a in hardware.accelerators):
        reason = "not measured on this device: MLX runs on the CPU only here; its speed is measured on a Mac with Metal"
        return Support(ok=False, reason=reason)
    return Support(ok=True, reason="timed on this machine")


def _reason(wanted: Support, made_from_it: str | None) -> str:
    if wanted.ok or made_from_it is None:
        return wanted.reason
    return f"{wanted.reason}, but {made_from_it} is made from it"


def _check_names(frameworks: str | tuple[str, ...]) -> None:
    for name in frameworks if isinstance(frameworks, tuple) else ():
        if name not in FRAMEWORKS:
            close = difflib.get_close_matches(name, FRAMEWORKS, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]!r}? " if close else ""
            allowed = f"auto, all, or a list of {', '.join(FRAMEWORKS)}"
            raise ConfigError(f"assess.frameworks: {name!r} is not known; {hint}allowed: {allowed}")
