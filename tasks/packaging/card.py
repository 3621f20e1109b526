"""The words of a package: its README, its model card, and what is said when nothing passed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.kinds.catalogue import Catalogue
from tasks.packaging import how_to_run, manifest
from tasks.records.artifact import Artifact
from tasks.records.base import Quantity, Reading
from tasks.records.hardware import Hardware
from tasks.records.placement import Placement
from tasks.records.quality import Evaluation
from tasks.records.scores import Metric, ScoreRow
from tasks.records.speed import Benchmark
from tasks.records.verdict import Expectation, Verdict

ABSENT = Metric(state="missing", reason="not in the scorecard")


@dataclass(frozen=True)
class Evidence:
    """Everything a card is written from."""

    contents: manifest.Contents
    licence: str
    artifact: Artifact
    evaluation: Evaluation
    benchmark: Benchmark
    row: ScoreRow
    reference: ScoreRow
    verdict: Verdict
    hardware: Hardware
    known: Catalogue
    placement: Placement | None = None


def readme(contents: manifest.Contents) -> str:
    """Write the package's README: its contents and the lines that run it."""
    code = "\n".join(how_to_run.lines(contents.backend, contents.chat, contents.settings, contents.family))
    return f"""# {contents.model}, {contents.variant}

{contents.model} for {contents.backend}, made by Edgewright; verdict of its quality gates: {contents.verdict}.
`CARD.md` says what it was made from, how, and how good and fast it was measured to be.

## Run it

From this folder:

```sh
pip install {" ".join(contents.requirements)}
```

```python
{code}
```

It was measured with `{how_to_run.MEASURED_WITH}` in the environment of Python, which Linux reads when a process
starts: memory in huge pages, where the system gives them, makes reading and writing some percent faster.

## What is here

| path | what |
|---|---|
| `model/` | the files as {contents.backend} loads them |
| `tokenizer/` | the tokenizer in the form of Hugging Face |
| `CARD.md` | model card |
| `package.json` | the same for machines |
| `MANIFEST.json` | size and SHA-256 of every file; Edgewright checks it before it loads the package |
"""


def nothing_passed(reason: str, shortfalls: Sequence[tuple[str, str]]) -> str:
    """README of a package without a model; `shortfalls` are (variant, what it missed), nearest first."""
    nearest = "\n".join(f"{n}. **{name}** {missed}" for n, (name, missed) in enumerate(shortfalls, 1))
    return f"""# No model

Nothing passed the quality gates, so there is nothing to ship: {reason}.

## The nearest candidates

{nearest or "There was no candidate to judge."}

Change `variants`, or the limits under `gate`, in `params.yaml` and run `dvc repro` again.
"""


def card(found: Evidence) -> str:
    """The model card."""
    return "\n\n".join(
        [
            f"# Model card: {found.contents.model}, {found.contents.variant}",
            _source(found),
            _recipe(found),
            _measured(found),
            _gates(found.verdict),
            _hardware(found),
            _limits(found),
        ]
    ) + "\n"  # fmt: skip


def _source(found: Evidence) -> str:
    return f"""## Where it comes from

* Source: {found.contents.origin}
* SHA-256 of the source's fp32 weights: `{found.contents.source_sha256}`
* Licence: {found.licence}"""


def _recipe(found: Evidence) -> str:
    recipe, artifact = found.contents.recipe, found.artifact
    group = recipe.group_size or "the backend's own"
    stored = artifact.check.precision_found if artifact.check else "not counted"
    versions = ", ".join(f"{name} {version}" for name, version in artifact.versions.items())
    reasons = "".join(f"\n* {reason}" for reason in recipe.reasons)
    return f"""## How it was made

* {recipe.backend}, {recipe.precision}, method {recipe.method}, group size {group}, \
{"symmetric" if recipe.symmetric else "asymmetric"}, share of layers at this precision {recipe.ratio:.0%}
* Weights as counted in the files: {stored}
* Made with {versions or "versions not recorded"}
* Repeat: `{artifact.command}`{reasons}"""


def _measured(found: Evidence) -> str:
    lines = [
        "## What was measured",
        "",
        f"Against {found.reference.variant}, on the same inputs and the same machine. ± is one standard error "
        "(paired, over rows, where it is a ratio); a range is lowest to highest of the repetitions.",
        "",
        f"| | {found.row.variant} | spread | n | {found.reference.variant} |",
        "|---|---|---|---|---|",
    ]
    for spec in found.known.having("card"):
        name, line = spec.name, spec.card
        if line is None:
            continue
        own, other = found.row.metrics.get(name, ABSENT), found.reference.metrics.get(name, ABSENT)
        spread = _spread(own, found.benchmark.phases.get(name), line.digits)
        cells = (line.words, _value(own, line.digits), spread, str(own.n or ""), _value(other, line.digits))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _value(metric: Metric, form: str) -> str:
    if metric.state == "measured" and metric.value is not None:
        return form.format(metric.value)
    return f"{'not measured on this device' if metric.state == 'not-measured' else 'missing'}: {_inline(metric.reason)}"


def _spread(metric: Metric, timed: Quantity | None, form: str) -> str:
    if metric.se is not None:
        return "± " + form.format(metric.se)
    if timed is not None and metric.state == "measured":
        return f"{form.format(timed.low)} to {form.format(timed.high)}"
    return ""


def _gates(verdict: Verdict) -> str:
    lines = [f"## Gates: {verdict.outcome}", "", "| gate | observed | limit | outcome | |", "|---|---|---|---|---|"]
    for e in verdict.expectations:
        observed = "none" if e.observed is None else f"{e.observed:.4g}"
        lines.append(f"| {e.gate} | {observed} | {_limit(e)} | {e.outcome} | {_inline(e.reason)} |")
    return "\n".join(lines)


def _limit(e: Expectation) -> str:
    bounds = [f"{word} {bound:g}" for word, bound in (("from", e.minimum), ("up to", e.maximum)) if bound is not None]
    return " ".join(bounds)


def _hardware(found: Evidence) -> str:
    hardware, benchmark = found.hardware, found.benchmark
    really = ", ".join(f"{name} {value}" for name, value in benchmark.runtime.items())
    return f"""## Hardware

* Target: {hardware.device} ({hardware.origin}), {hardware.description}
* CPU: {_reading(hardware.cpu_model)}, {_reading(hardware.usable_cores)} usable cores, \
{_reading(hardware.memory_mb)} MB of memory
* Timed with {benchmark.threads} threads, prompts of {benchmark.sizes.get("prompt_tokens_short", 0)} and \
{benchmark.sizes.get("prompt_tokens_long", 0)} tokens, {benchmark.sizes.get("new_tokens", 0)} new tokens
* As the runtime really ran: {really or "not recorded"}{_placed(found.placement)}"""


def _placed(found: Placement | None) -> str:
    """Where it was put, in a line; nothing where nobody asked."""
    if found is None:
        return ""
    share = found.share_as_asked
    told = [
        "" if share is None else f"{share:.0%} of the FLOPs where asked",
        "" if found.transfers is None else f"{found.transfers} transfers between devices",
        *(f"fell back ({one.kind}): {_inline(one.reason)}" for one in found.fallbacks),
    ]
    said = "; ".join(filter(None, told))
    return f"\n* Asked for {found.requested}, placed on {found.resolved}: {said} (by {found.verified_by})"


def _limits(found: Evidence) -> str:
    evaluation, benchmark = found.evaluation, found.benchmark
    rows, predictions = (evaluation.counts.get(name, 0) for name in ("rows", "predictions"))
    points = [
        f"Quality was measured on {rows} rows ({predictions} predictions) of one kind of text; "
        "other tasks, other languages, safety and bias were not measured.",
        "Every figure is relative to the reference named above; what the source model gets wrong, this one does too.",
    ]
    if evaluation.subset:
        points.append("It was scored on fewer rows than faster runtimes, so its errors are larger.")
    if benchmark.speed.ok:
        points.append("Speed and memory hold for the hardware above, with those thread and prompt counts.")
    else:
        points.append(f"Speed and memory were not measured on this device: {benchmark.speed.reason}.")
    return "## Limits\n\n" + "\n".join(f"* {point}" for point in points)


def _reading(reading: Reading[str] | Reading[int]) -> str:
    return str(reading.value) if reading.value is not None else f"unknown ({reading.reason})"


def _inline(text: str) -> str:
    """Text that fits into a cell of a Markdown table."""
    return " ".join(text.replace("|", "/").split())
