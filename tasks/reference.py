"""Reference: what the unquantized model answers to everything that every variant is asked."""

from __future__ import annotations

from tasks.hardware import cores
from tasks.kinds.base import Answered, ReferenceRequest
from tasks.kinds.table import scoring
from tasks.params.load import load_params
from tasks.params.pipeline import Params
from tasks.run.child import Child, run_child
from tasks.run.disk import fresh_folder, replace_folder
from tasks.run.memo import Memo, key_of
from tasks.run.stage import main_of
from tasks.run.workspace import Workspace
from tasks.sources.files import Source

ANSWER = "answered.json"


def reference(workspace: Workspace, params: Params) -> Answered:
    """Write the reference's folder, or link back what was answered before; raises ChildError."""
    kind, memo = Source.read(workspace.source).kind, Memo(workspace.memo)
    digest = key(workspace, kind, params)
    if memo.restore("reference", kind, digest, workspace.reference):
        return Answered.read(workspace.reference / ANSWER)
    partial, threads = fresh_folder(workspace.reference), cores.shared_threads()
    request = ReferenceRequest(
        kind=kind,
        threads=threads,
        model=workspace.model,
        data=workspace.data,
        out=partial,
        settings=params.evaluate,
    )
    log = workspace.logs / "reference.log"
    child = Child("tasks.kinds.answering:refer", request, params.evaluate.limits, log, "reference", threads)
    answered = run_child(child, Answered)
    answered.write(partial / ANSWER)
    replace_folder(partial, workspace.reference)
    memo.keep("reference", kind, digest, workspace.reference)
    return answered


def key(workspace: Workspace, kind: str, params: Params) -> str:
    """Digest of all that the reference depends on, the same as dvc.yaml says."""
    name = scoring(kind).REFERENCE_BACKEND
    return key_of(
        [kind, str(params.evaluate.answer_tokens)],
        [
            workspace.source,
            workspace.data / "evaluation",
            workspace.data / "probe",
            *workspace.listed("reference", name),
        ],
    )


def work() -> None:
    """Let the workspace's model answer."""
    print(reference(Workspace(), load_params()).words)


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    return main_of("tasks.reference", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
