"""Track: everything a run found into MLflow, once per result, and the winner into the registry.

The one stage that touches the world: it always runs, and does nothing when MLflow knows the results already.
"""

from __future__ import annotations

from tasks.params.load import load_params
from tasks.registry import receipts, runs, store
from tasks.registry.receipts import Tracked
from tasks.registry.results import Results
from tasks.run.stage import argument, main_of
from tasks.run.workspace import Workspace


def track(results: Results, force: bool = False) -> Tracked:
    """Bring the results into MLflow unless they are there, and say where.

    A receipt answers without MLflow; `force` asks MLflow itself. A run that was cut off is removed and done again.
    Raises RegistryError when MLflow cannot be reached; the results stay and the call can be repeated.
    """
    known = None if force else receipts.found(results.digest, store.tracking_uri())
    if known is not None:
        return known
    with store.reaching(runs.REPEAT) as client:
        tracked = runs.found(client, results) or runs.record(client, results)
    receipts.note(tracked)
    return tracked


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""

    def work(force: bool) -> None:
        workspace = Workspace()
        tracked = track(Results.read(workspace, load_params()), force)
        tracked.write(workspace.tracked)
        print(f"track: run {tracked.parent_run_id} in {tracked.tracking_uri} - {tracked.reason}")

    asked = argument("--force", action="store_true", help="ask MLflow even when a receipt says it has these results")
    return main_of("tasks.track", __doc__, work, argv, asked)


if __name__ == "__main__":
    raise SystemExit(main())
