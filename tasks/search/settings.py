"""Look for better runtime settings of one artifact: single changes in turns with the defaults, within a budget."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tasks.backends.devices import DEVICE
from tasks.backends.placing import AUTO
from tasks.backends.table import backend
from tasks.errors import ChildError
from tasks.hardware import cores
from tasks.kinds.catalogue import Catalogue
from tasks.kinds.table import catalogue, family
from tasks.measure import guard
from tasks.measure.pairing import paired_median
from tasks.measure.passes import Passes
from tasks.measure.requests import MeasureRequest, Opening
from tasks.measure.session import Session, VariantTimings, run_blocks
from tasks.measure.timing import Times
from tasks.params.pipeline import Params
from tasks.planning.devices import devices
from tasks.records.hardware import Hardware
from tasks.records.speed import Paired, Trial, Tuned
from tasks.run.workspace import Workspace
from tasks.search import tuning
from tasks.search.tuning import Settings
from tasks.sources.files import Source

DEFAULT, BEST = "defaults", "tuned"
SHORT = {"repeats": 2, "decode_repeats": 1, "new_tokens": 32}  # of each block
AT_ONCE = 2  # changes between two blocks of the defaults
CONFIRM = 2, 2  # blocks of the combination that is looked at more closely; the second time if it is still promising


class Found(NamedTuple):
    """Result of a search for settings."""

    trials: list[Trial]
    settings: Settings  # that differ from the defaults; empty: the defaults
    gain: Mapping[str, Paired]  # phase -> times as fast, of the combination looked at closely
    reason: str


@dataclass
class Search:
    """One backend's search: `request` opens the artifact that stands for its candidates, with the defaults."""

    backend: str
    request: MeasureRequest
    passes: Passes
    budget_s: float
    known: Catalogue

    def run(self, changes: Sequence[Settings]) -> Found:
        """Time single changes while half of the budget lasts, then combine the single changes that helped.

        Raises ChildError where a device that was asked for does not run the artifact.
        """
        self._tried = {json.dumps(change, sort_keys=True): change for change in changes}
        self._session = Session(DEFAULT, self.known.phases, self.known.deciding, timings={DEFAULT: VariantTimings()})
        began, trials = time.monotonic(), list[Trial]()
        self._turns([DEFAULT])
        if self.request.opening.settings and (failure := self._session.timings[DEFAULT].failure):
            raise ChildError(failure, kind="failed")
        tried = list(self._tried.items())
        for some in (tried[start : start + AT_ONCE] for start in range(0, len(tried), AT_ONCE)):
            if time.monotonic() - began > self.budget_s / 2:
                late = "not tried: half of tune.budget_s was used up"
                trials += [Trial(settings=change, reason=late) for _, change in some]
                continue
            self._turns([*(label for label, _ in some), DEFAULT])
            trials += [self._trial(label, change) for label, change in some]
        every = len(self.known.deciding)
        whole = [(trial.settings, trial.speedups) for trial in trials if len(trial.speedups) == every]
        chosen = tuning.combination(whole)
        if not chosen:
            return Found(trials, {}, {}, f"defaults: none of {len(whole)} changes promises {tuning.PROMISING:.0%}")
        return self._confirmed(trials, chosen)

    def _trial(self, label: str, change: Settings) -> Trial:
        blocks, phases = self._session.blocks, self.known.phases
        speedups = {
            phase: paired_median(blocks, label, DEFAULT, (phase, phases[phase])) for phase in self.known.deciding
        }
        told = {phase: value for phase, value in speedups.items() if value is not None}
        return Trial(settings=change, speedups=told, reason="" if len(told) == len(speedups) else self._why(label))

    def _confirmed(self, trials: list[Trial], chosen: Settings) -> Found:
        said = ", ".join(f"{key} {value}" for key, value in chosen.items())
        print(f"  {self.backend}: {said} looks better; timing it again", file=sys.stderr, flush=True)
        self._tried[BEST] = chosen
        for count in CONFIRM:
            self._turns([BEST, DEFAULT] * count)
            gain = self._session.paired(BEST)
            kept = {phase: gain[phase] for phase in self.known.deciding if phase in gain}
            if problem := tuning.not_worth_it(self.known, kept):
                break
        problem = problem or tuning.verdict(self.known, kept)
        if problem:
            return Found(trials, {}, kept, f"defaults: of {said}, {problem}")
        gained = ((self.known[phase].title, kept[phase].value) for phase in self.known.deciding)
        words = ", ".join(f"{title} {value:.2f}x" for title, value in gained)
        return Found(trials, chosen, kept, f"{said}: {words}")

    def _turns(self, order: list[str]) -> None:
        settings = self.request.settings
        run_blocks(self._session, order, self._block, settings.max_others_cores, settings.retries)

    def _block(self, label: str) -> Times:
        change = self._tried.get(label, {})
        opening = self.request.opening.model_copy(update={"settings": self.request.opening.settings | change})
        try:
            return self.passes.time(f"{self.backend} tuning", self.request.model_copy(update={"opening": opening}))
        except ChildError as error:
            if not change:
                raise
            raise ChildError(f"{error} with {change}", kind=error.kind) from error

    def _why(self, label: str) -> str:
        """Why a change has no speedups: its process failed, or it or the defaults beside it were disturbed."""
        own = self._session.timings[label]
        said = own.failure or self._session.timings[DEFAULT].failure or "; ".join(dict.fromkeys(own.objections))
        return said or "the defaults beside it were disturbed"


def command(name: str) -> str:
    """The line that tunes one backend again."""
    return f"python -m tasks.tune --again {name}"


def tuned(workspace: Workspace, name: str, variant: str, params: Params) -> Tuned:
    """Tune one backend by the artifact of one of its candidates; without one or a budget, its defaults and why.

    Where `accelerate.device` is auto, every device that is there is a change to try like others. A device that is asked
    for and is there is taken, and the rest is tuned on it; the processor where it does not run the model.
    """
    common: dict[str, Any] = {"backend": name, "variant": variant, "command": command(name)}
    if not variant:
        return Tuned(reason="defaults: no candidate of it is timed on this device", **common)
    threads, asked = cores.threads(params.benchmark.threads), params.accelerate.device
    kind, files = Source.read(workspace.source).kind, workspace.artifact_files(variant)
    there = devices(Hardware.read(workspace.hardware), name, family(kind), asked)
    given = {DEVICE: there[0]} if there and asked != AUTO else {}
    if not params.tune.budget_s:
        return Tuned(reason="defaults: tune.budget_s is 0", settings=given, **common)
    changes = [one for one in tuning.single_changes(backend(name).SETTINGS) if threads > 2 or "threads" not in one]
    changes = [{DEVICE: one} for one in there if not given] + changes
    if not changes:  # to halve two threads is no tuning
        return Tuned(reason="defaults: it has no settings to try", settings=given, **common)
    settings = params.benchmark.model_copy(update=SHORT)
    began, why = time.monotonic(), ""

    def searched(device: Settings) -> Found:
        opening = Opening(kind=kind, backend=name, artifact=files, threads=threads, settings=device)
        request = MeasureRequest(opening=opening, data=workspace.data, settings=settings, brief=True)
        return Search(name, request, Passes(workspace.logs), params.tune.budget_s, catalogue(kind)).run(changes)

    with guard.device_to_itself():
        try:
            found = searched(given)
        except ChildError as error:
            if not given:
                raise
            why, given = f"{given[DEVICE]} was asked for and does not run it ({error}); ", {}
            found = searched(given)
    return Tuned(
        reason=f"{why}{found.reason}",
        settings=given | found.settings,
        gain=dict(found.gain),
        trials=tuple(found.trials),
        seconds=round(time.monotonic() - began, 1),
        **common,
    )
