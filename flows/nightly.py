"""The flow that a schedule starts: the same as `make run`, with its settings as parameters."""

from __future__ import annotations

from prefect import flow

from flows.run import run
from tasks.errors import EXIT_OK, EdgewrightError
from tasks.params.settings import collect


class RunFailed(EdgewrightError):
    """A scheduled run ended with an exit code above 0; its log has the list of stages."""


@flow(name="nightly", log_prints=True)
def nightly(
    model: str | None = None,
    target: str | None = None,
    profile: str | None = None,
    settings: tuple[str, ...] = (),
    task_runner: str = "local",
    dry_run: bool = False,
) -> None:
    """Bring the pipeline up to date; a run that finds another at work waits for it."""
    code = run(collect(model, target, profile, settings), task_runner, dry_run=dry_run)
    if code != EXIT_OK:
        raise RunFailed(f"the run ended with exit code {code}; its log says which stages failed")
