"""Trials on disk: an Optuna study in sqlite that only one process writes, so that a killed search goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.errors import ResourceError
from tasks.params.pipeline import Variant
from tasks.records.search import Trial
from tasks.search.strategies import choices, point

RECORD, NAME, RETRY, IMPUTED = "record", "candidate", "retry_of", "imputed"
RETRIES = 2  # of a candidate whose process died with the search


class Study:
    """The trials of one search. Each candidate that was begun is a trial of Optuna's; its record is an attribute."""

    def __init__(self, file: Path, name: str, candidates: Mapping[str, Variant]) -> None:
        """Open or create the study `name` in a sqlite file; raises ResourceError where another search writes it."""
        import optuna
        from filelock import FileLock, Timeout

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(file.with_suffix(".lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ResourceError(f"another search writes {file}; let it end, or stop it") from None
        storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
        self._study = optuna.create_study(
            study_name=name, storage=storage, direction="maximize", load_if_exists=True,
            sampler=optuna.samplers.RandomSampler(seed=0),
        )  # fmt: skip
        self._candidates, self._choices = candidates, choices(candidates)

    def close(self) -> None:
        """Let others write."""
        self._lock.release()

    def recovered(self) -> list[Trial]:
        """All trials as they were left. One that was under way is ended as failed and begun anew, with what it has.

        One that was under way too often is given up: it may be what ends the process.
        """
        found = {}
        for one in self._study.get_trials(deepcopy=False):
            trial = Trial.model_validate_json(one.user_attrs[RECORD]) if RECORD in one.user_attrs else None
            if one.state.name == "RUNNING":
                self._study.tell(one.number, state=_state("FAIL"))
                if trial is None:
                    continue
                trial = self._again(trial, one)
            if trial is not None:
                found[trial.name] = trial
        return list(found.values())

    def _again(self, trial: Trial, one: Any) -> Trial:
        tries = one.user_attrs.get("tries", 0) + 1
        if tries > RETRIES:
            ended = trial.model_copy(
                update={"standing": "failed", "reason": f"the search ended {tries} times while it was under way"}
            )
            self._study.set_user_attr(f"given up {trial.name}", tries)
            return self._begin(ended, {RETRY: one.number, "tries": tries}, over=True)
        return self._begin(trial, {RETRY: one.number, "tries": tries})

    def begin(self, trial: Trial) -> Trial:
        """Note that a candidate is under way."""
        return self._begin(trial, {})

    def _begin(self, trial: Trial, told: Mapping[str, Any], over: bool = False) -> Trial:
        self._study.enqueue_trial(point(self._candidates[trial.name]), user_attrs={NAME: trial.name, **told})
        asked = self._study.ask(self._choices)
        begun = trial.begun(asked.number)
        asked.set_user_attr(RECORD, begun.model_dump_json())
        if over:
            self._study.tell(asked.number, state=_state("FAIL"))
        return begun

    def note(self, trial: Trial) -> None:
        """Keep what is known of a trial that is under way."""
        if trial.number is None:
            raise ValueError(f"{trial.name} was never begun")
        storage, study = self._study._storage, self._study._study_id
        number = storage.get_trial_id_from_study_id_trial_number(study, trial.number)
        storage.set_trial_user_attr(number, RECORD, trial.model_dump_json())

    def end(self, trial: Trial, value: float, imputed: bool) -> None:
        """Close a trial with the value that samplers learn from; `imputed`: none that was measured."""
        if trial.number is None:
            raise ValueError(f"{trial.name} was never begun")
        self.note(trial)
        storage, study = self._study._storage, self._study._study_id
        number = storage.get_trial_id_from_study_id_trial_number(study, trial.number)
        storage.set_trial_user_attr(number, IMPUTED, imputed)
        self._study.tell(trial.number, value)

    def spent(self, seconds: float | None = None) -> float:
        """Seconds that all processes of this search took together; `seconds` sets it."""
        if seconds is not None:
            self._study.set_user_attr("spent_s", seconds)
        return float(self._study.user_attrs.get("spent_s", 0.0))


class InMemory:
    """The same without a file, for searches over recorded tables."""

    def recovered(self) -> list[Trial]:
        """None."""
        return []

    def begin(self, trial: Trial) -> Trial:
        """Number it."""
        return trial.begun(0)

    def note(self, trial: Trial) -> None:
        """Nothing is kept."""

    def end(self, trial: Trial, value: float, imputed: bool) -> None:
        """Nothing is kept."""

    def spent(self, seconds: float | None = None) -> float:
        """Time is the bench's to tell."""
        return 0.0


def opened(candidates: Mapping[str, Variant], known: Iterable[Trial]) -> list[Trial]:
    """A trial for every candidate: those that are known, and new ones; those no longer in the space are left out."""
    have = {one.name: one for one in known}
    return [
        have.get(name) or Trial(name=name, variant=variant.model_dump(mode="json", exclude_defaults=True))
        for name, variant in candidates.items()
        if variant.role == "candidate"
    ]


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


Notebook = Study | InMemory
Trials = Sequence[Trial]
