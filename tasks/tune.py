"""Tune: each backend's runtime settings, by timing changes in turns with its defaults, within a budget (S10, S16).

One of the backend's candidates stands for all of them. What was found is used wherever a candidate is loaded from then
on, for scoring as well, so that what is timed and served is what was scored.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping

from tasks.backends.table import MODULES
from tasks.errors import DataError
from tasks.hardware import cores
from tasks.params.load import load_params
from tasks.params.pipeline import Params
from tasks.records.artifact import Artifact
from tasks.records.base import write_text
from tasks.records.plan import PlanEntry
from tasks.records.speed import Tuned
from tasks.run.disk import fresh_folder
from tasks.run.memo import Memo, key_of
from tasks.run.stage import argument, main_of
from tasks.run.workspace import Workspace
from tasks.search.settings import tuned

AGAIN = argument("--again", action="append", default=[], choices=tuple(MODULES), help="although nothing changed")


def tune(workspace: Workspace, params: Params, again: tuple[str, ...] = ()) -> list[str]:
    """Bring the folder of tuned settings up to date, those in `again` in any case; returns a line per backend."""
    entries = {name: PlanEntry.read(workspace.plan(name)) for name in params.variants}
    artifacts = {name: Artifact.read(workspace.artifact_record(name)) for name in entries}
    memo, lines = Memo(workspace.memo), []
    for name in MODULES:
        variant = standing_for(name, entries, artifacts)
        digest = key(workspace, name, variant, params)
        known = None if name in again else _known(workspace, memo, name, digest)
        if known is None:
            known = tuned(workspace, name, variant, params).model_copy(update={"key": digest})
            partial = fresh_folder(workspace.tune / name)
            known.write(partial / workspace.tuned(name).name)
            memo.keep("tune", name, digest, partial)
            shutil.rmtree(partial)
            lines.append(f"{name}: {known.reason}")
        else:
            lines.append(f"{name}: unchanged")
        known.write(workspace.tuned(name))
        # Apart from how they were found, so that finding the same again is no change to what depends on them.
        write_text(workspace.settings(name), json.dumps(known.settings, indent=2) + "\n")
    for file in workspace.tune.glob("**/*.json"):
        if file.stem not in MODULES:
            file.unlink()
    return lines


def standing_for(name: str, entries: Mapping[str, PlanEntry], artifacts: Mapping[str, Artifact]) -> str:
    """The first candidate of a backend that was made and is timed here; empty when there is none."""
    fit = (
        variant
        for variant, entry in entries.items()
        if entry.recipe.backend == name
        and entry.recipe.role == "candidate"
        and entry.action == "run"
        and entry.speed_on_device.ok
        and artifacts[variant].status == "ok"
    )
    return next(fit, "")


def key(workspace: Workspace, name: str, variant: str, params: Params) -> str:
    """Digest of all that the outcome depends on: the artifact, prompts, settings, machine, code."""
    blocks = (params.tune, params.benchmark.limits)
    words = [*(one.model_dump_json() for one in blocks), params.accelerate.device, variant]
    files = [workspace.hardware, workspace.data / "workload", *workspace.listed("tune", name)]
    made = [workspace.artifact_manifest(variant)] if variant else []
    return key_of([*words, str(cores.threads(params.benchmark.threads))], [*files, *made])


def _known(workspace: Workspace, memo: Memo, name: str, digest: str) -> Tuned | None:
    kept = memo.find("tune", name, digest)
    for file in (workspace.tuned(name), kept / workspace.tuned(name).name if kept else None):
        try:
            found = Tuned.read(file) if file else None
        except DataError:
            continue
        if found is not None and found.key == digest:
            return found
    return None


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""

    def work(again: list[str]) -> None:
        print("\n".join(tune(Workspace(), load_params(), tuple(again))))

    return main_of("tasks.tune", __doc__, work, argv, AGAIN)


if __name__ == "__main__":
    raise SystemExit(main())
