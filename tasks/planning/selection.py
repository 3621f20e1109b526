"""Rank the frameworks for a target, a model and the user's requirements (S2, S4). Pure; matrix.yaml has the knowledge.

A framework is what a backend is ranked as; what is known of it the backend itself tells (TRAITS).
A framework's score is the weighted mean, with the weights `shares`, of up to four points between 0 and 1: its place in
the hardware matrix, whether the decision tree ends at it, how well it meets the requirements (the mean of its marks,
weighted as the user does), and its place in the preference order of the stage of work, if that has one. What cannot run
ranks behind what can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tasks.backends.base import Backend
from tasks.backends.table import MODULES, backend
from tasks.backends.traits import Traits
from tasks.params.pipeline import Assess
from tasks.planning.matrix import Platform, table
from tasks.records.base import Support
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import FrameworkChoice, Selection
from tasks.records.terms import Framework

MULTIMODAL = ("image-classifier", "vision-language", "speech-to-text", "audio-classifier")  # by the decision tree
NEUTRAL = 0.5  # worth of a requirement for which a backend gives no mark
Order = dict[str, tuple[int, str]]  # framework -> place, why
Ranked = Mapping[Framework, Backend]


def ranked_backends(names: Iterable[str] = ()) -> dict[Framework, Backend]:
    """The backends that are ranked, by their framework: all of the table, and those of `names` that are not in it."""
    found: dict[Framework, Backend] = {}
    for name in (*MODULES, *names):
        one = backend(name)
        if one.FRAMEWORK is not None:
            found.setdefault(one.FRAMEWORK, one)
    return found


def select(hardware: Hardware, model: ModelProfile, wishes: Assess, ranked: Ranked | None = None) -> Selection:
    """Rank the frameworks, each with its reasons, and record the questions that led there; untold, the table's own."""
    row, stand_in = platform_of(hardware)
    chosen, path = decide(hardware, model, wishes.stage)
    large = model.parameters > table().large_parameters
    stage = "enterprise" if large and wishes.stage != "enterprise" else wishes.stage
    if stage != wishes.stage:
        path = (*path, "Preference order? enterprise, because of the model's size")
    order = order_of(stage)
    choices = []
    for framework, one in (ranked or ranked_backends()).items():
        points, reasons = _points(framework, table().platforms[row], row, chosen, order)
        fit, why = requirements_fit(one.TRAITS, model, wishes)
        points["requirements"] = fit
        choices.append((framework, _mean(points), (*reasons, why), supports(one, hardware, model)))
    choices.sort(key=lambda choice: (not choice[3].ok, -choice[1], choice[0]))
    ranking = tuple(
        FrameworkChoice(rank=rank, framework=framework, score=score, reasons=reasons, support=support)
        for rank, (framework, score, reasons, support) in enumerate(choices, 1)
    )
    first = f"Hardware? {hardware.family} on {hardware.architecture.value or 'an unknown architecture'}: row {row}"
    return Selection(device=hardware.device, path=(f"{first}{stand_in}", *path), ranking=ranking)


def platform_of(hardware: Hardware) -> tuple[str, str]:
    """The row of the hardware matrix, and why it stands in where the family has none of its own."""
    rows = table().families[hardware.family]
    row = rows.get(hardware.architecture.value or "", rows["any"])
    return row, "" if row == hardware.family else f" ({table().stands_in[row]})"


def decide(hardware: Hardware, model: ModelProfile, stage: str) -> tuple[tuple[Framework, ...], tuple[str, ...]]:
    """Walk the decision tree; returns the frameworks at its end and the questions with their answers."""
    answer = table().platforms[platform_of(hardware)[0]].answer
    facts = {
        "apple": "yes" if answer == "apple" else "no",
        "large": "yes" if model.parameters > table().large_parameters else "no",
        "stage": stage,
        "platform": answer,
        "model": "multimodal" if model.modality in MULTIMODAL else "language",
    }
    tree = table().tree
    at = tree.start
    path: list[str] = []
    while True:
        question = tree.questions[at]
        branch = question.answers[facts[question.fact]]
        step = f"{question.ask} {facts[question.fact]}"
        if branch.next is None:
            return branch.choose, (*path, f"{step}: {' or '.join(branch.choose)}")
        path.append(step)
        at = branch.next


def order_of(stage: str) -> Order:
    """Place and reason of each framework in the preference order of `stage`; empty where there is none."""
    preferences = next((entries for name, entries in table().orders.items() if name == stage), ())
    return {entry.framework: (place, f"{stage}: {entry.why}") for place, entry in enumerate(preferences, 1)}


def requirements_fit(traits: Traits, model: ModelProfile, wishes: Assess) -> tuple[float, str]:
    """Score from 0 to 1 how well a backend meets the weighted requirements, and name the best and worst of them."""
    weights = {name: weight for name, weight in wishes.requirements.model_dump().items() if weight > 0}
    if not weights:
        return 0.5, "no requirement has a weight"
    marks = {name: _mark(traits, name, model) for name in weights}
    fit = sum(weights[name] * marks[name] for name in weights) / sum(weights.values())
    gained = max(weights, key=lambda name: weights[name] * marks[name])
    lost = max(weights, key=lambda name: weights[name] * (1 - marks[name]))
    against = f", against it {_words(lost)}" if marks[lost] < 1 and lost != gained else ""
    return fit, f"meets {fit:.0%} of the requirements: for it {_words(gained)}{against}"


def runs_on(traits: Traits, hardware: Hardware) -> Support:
    """Tell whether the backend has a runtime on the target."""
    if hardware.is_host:
        return Support(ok=True, reason="runs on this machine")
    reason = traits.cannot_run.get(hardware.family)
    return Support(ok=not reason, reason=reason or f"has a runtime for {hardware.family}")


def converts(one: Backend, hardware: Hardware, model: ModelProfile) -> Support:
    """Tell whether the backend converts the model, by the table of architectures; where it is not there, ask it."""
    if model.family not in one.FAMILIES:
        return Support(ok=False, reason=f"{one.NAME} runs no models of {model.family}")
    known = model.compatibility.get(one.FRAMEWORK or "")
    return known if known is not None else one.probe(hardware, model)


def supports(one: Backend, hardware: Hardware, model: ModelProfile) -> Support:
    """Tell whether the backend can take this model to this target; the model is asked first."""
    of_model, on_target = converts(one, hardware, model), runs_on(one.TRAITS, hardware)
    return of_model if not of_model.ok or on_target.ok else on_target


def _points(
    framework: Framework, platform: Platform, row: str, chosen: tuple[Framework, ...], order: Order
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Points from the matrix, the tree and the preference order, with a reason for each."""
    worth = table().platform_points
    if framework == platform.primary:
        place, why = worth.primary, f"first choice for {row}: {platform.special}"
    elif framework == platform.secondary:
        place, why = worth.secondary, f"second choice for {row}"
    else:
        place, why = worth.other, f"not named for {row}"
    points, reasons = {"platform": place, "tree": float(framework in chosen)}, [why]
    if framework in chosen:
        reasons.append("the decision tree ends here")
    if framework in order:
        number, preference = order[framework]
        points["order"] = 1 - (number - 1) / len(order)
        reasons.append(f"{number} of {len(order)} for {preference}")
    return points, tuple(reasons)


def _mean(points: dict[str, float]) -> float:
    shares: dict[str, float] = table().shares.model_dump()
    return round(sum(shares[name] * value for name, value in points.items()) / sum(shares[name] for name in points), 4)


def _mark(traits: Traits, requirement: str, model: ModelProfile) -> float:
    worth, mark = table().marks, traits.marks.get(requirement)
    if mark is None:
        return NEUTRAL
    return worth["poor" if mark == "llm" and model.modality != "causal-lm" else mark]


def _words(name: str) -> str:
    return name.replace("_", " ")
