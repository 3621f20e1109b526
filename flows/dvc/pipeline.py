"""The only place that talks to DVC: what is stale and why, and one stage reproduced.

DVC is called in this process: a `dvc repro` of its own costs 1.5 s of start-up for each of some fifty stages. DVC drops
its repository lock while a stage's command runs, so several processes may reproduce different stages at once.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.dvc import lock_file, without_git
from flows.stop import stopping
from tasks.errors import EXIT_BAD_INPUT, EXIT_FAIL, EdgewrightError, ResourceError
from tasks.params.load import EFFECTIVE, FOUND, PARAMS

ALWAYS = "runs every time"
NO_VARIANTS = Path(__file__).with_name("no_variants.yaml")  # the effective file has those that were found
COMPOSE = "compose"  # writes the parameters that the others read
ORDER = (
    COMPOSE, "code", "detect", "fetch", "data", "reference", "assess", "convert", "tune", "evaluate", "ceiling",
    "benchmark", "place", "recommend", "gate", "package", "report", "track", "bundle",
)  # fmt: skip

_repos = threading.local()


@dataclass(frozen=True)
class Step:
    """One stage that has to run, why, and the stages it reads from."""

    name: str
    reason: str
    needs: tuple[str, ...] = ()

    @property
    def verb(self) -> str:
        """The stage without its variant: `convert` of `convert@onnx-int8`."""
        return self.name.split("@")[0]

    @property
    def variant(self) -> str:
        """The variant, or nothing."""
        return self.name.partition("@")[2]


class StageFailed(EdgewrightError):
    """A stage's command ended with an error; its own lines say why. Arguments are positional, so that it pickles."""

    exit_code = EXIT_FAIL

    def __init__(self, stage: str, code: int | None, detail: str) -> None:
        super().__init__(stage, code, detail)
        self.stage = stage
        self.code = code
        self.detail = detail
        self.exit_code = EXIT_BAD_INPUT if code == EXIT_BAD_INPUT else EXIT_FAIL

    def __str__(self) -> str:
        return f"{self.stage}: {self.detail}; repeat it with `dvc repro --single-item {self.stage}`"


class PipelineBusy(ResourceError):
    """Another DVC process holds what this stage needs; trying again later helps."""


@dataclass(frozen=True)
class Plan:
    """All stages in the order of a run, and those of them that have to run."""

    stages: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def work(self) -> tuple[Step, ...]:
        """What has to run because something changed."""
        return tuple(step for step in self.steps if step.reason != ALWAYS)


def stale(root: Path) -> Plan:
    """Find the stages that have to run, each with the reason.

    A stage that runs every time drags nothing behind it until its output has changed: run it, then ask again.
    """
    mend(root)
    return _plan(_repo(root), root)


def stale_with(root: Path, parameters: str) -> Plan:
    """Find the stages that would have to run with these effective parameters; writes nothing in the checkout."""
    root = root.resolve()
    with tempfile.TemporaryDirectory(prefix="edgewright-") as scratch:
        shown = Path(scratch) / PARAMS
        shown.write_text(parameters, encoding="utf-8")
        instead = {root / PARAMS: shown, root / EFFECTIVE: shown, root / FOUND: NO_VARIANTS}
        return _plan(_opened(root, instead), root, known=(COMPOSE,))


def _plan(repo: Any, root: Path, known: tuple[str, ...] = ()) -> Plan:
    """What DVC says of all stages; those `known` are taken as run, as DVC is shown already what they would write."""
    import networkx as nx  # type: ignore[import-untyped]
    from dvc.exceptions import DvcException

    try:
        status = repo.status()
        names = {stage.addressing: stage.name for stage in repo.index.graph}  # an address depends on the folder
        graph = nx.relabel_nodes(repo.index.graph, {stage: stage.name for stage in repo.index.graph})
    except DvcException as error:
        raise ResourceError(f"DVC cannot read the pipeline in {root}: {_words(error)}") from error
    reasons = {names[address]: because(entries) for address, entries in status.items()}
    reasons |= {name: ALWAYS for name in known if name in reasons}
    follows = _descendants(graph, [name for name, reason in reasons.items() if reason != ALWAYS])
    reasons = {**{name: f"follows {cause}" for name, cause in follows.items()}, **reasons}
    stages = in_order(graph)
    steps = (Step(name, reasons[name], tuple(graph.successors(name))) for name in stages if name in reasons)
    return Plan(tuple(stages), tuple(steps))


def because(entries: Iterable[Any]) -> str:
    """Say in a few words what DVC's status of one stage means.

    >>> because([{"changed deps": {"params.yaml": {"convert": "modified"}, "artifacts/model": "modified"}}])
    'convert modified, artifacts/model modified'
    >>> because([{"changed deps": {"artifacts/model": "deleted"}}, {"changed outs": {"artifacts/plan": "deleted"}}])
    'not there yet'
    >>> because(["always changed"])
    'runs every time'
    """
    found: list[tuple[str, str]] = []
    for entry in entries:
        if isinstance(entry, str):
            found += [] if entry == "always changed" else [("its command", "changed")]
        else:
            if set(entry.get("changed outs", {}).values()) == {"deleted"}:
                return "not there yet"
            found += [change for changes in entry.values() for change in _flat(changes)]
    if not found:
        return ALWAYS
    words = [f"{name} {what}" for name, what in found]
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")


def in_order(graph: Any) -> list[str]:
    """All stages, each after what it needs, and by phase: all conversions before the first evaluation."""
    import networkx as nx

    return sorted(nx.dfs_postorder_nodes(graph), key=lambda name: _phase(name.split("@")[0]))


def _phase(verb: str) -> int:
    """Place of a stage in the run; one the user added comes after the measurements, in DVC's order."""
    return ORDER.index(verb) if verb in ORDER else ORDER.index("recommend")


def reproduce(stage: str, root: Path) -> bool:
    """Bring one stage up to date; its inputs must be. True when it ran or came from the cache, False when unchanged.

    The command writes to this process's own stdout and stderr. Raises StageFailed, PipelineBusy when another DVC
    process is at the same files, KeyboardInterrupt when the user stopped the command.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    if stopping.is_set():
        raise KeyboardInterrupt
    _prepare(root)
    try:
        done = bool(_repo(root).reproduce([f"dvc.yaml:{stage}"], single_item=True))
    except DvcException as error:
        cause = error.__cause__ or error
        if isinstance(cause, LockError):
            raise PipelineBusy(
                f"{stage}: another DVC process is at its files ({_words(cause)}); let it end, or stop it"
            ) from error
        if stopping.is_set() or _interrupted(cause):
            stopping.set()
            raise KeyboardInterrupt from error
        raise StageFailed(stage, _code(cause), _words(cause)) from error
    _remember(root)
    return done


def mend(root: Path) -> bool:
    """Put back the last whole dvc.lock if a killed run left half of one, and drop the list of who reads and writes what
    if it left half of that; True when there was something to mend.
    """
    with _repo(root).lock:  # another process may be writing it
        dropped = lock_file.drop_broken_list(root)
        return lock_file.mend(root) or dropped


def _remember(root: Path) -> None:
    with _repo(root).lock:
        lock_file.remember(root)


def _repo(root: Path) -> Any:
    """DVC's view of `root`, one per thread (it is not made to be shared) and kept: opening costs a tenth of a second.

    It waits for the repository lock as long as need be: given up after a stage's command, the work would be lost.
    """
    cache: dict[Path, Any] = _repos.__dict__.setdefault("open", {})
    root = root.resolve()
    if root not in cache:
        cache[root] = _opened(root, {root / PARAMS: root / EFFECTIVE, root / FOUND: NO_VARIANTS})
    return cache[root]


def _opened(root: Path, instead: Mapping[Path, Path]) -> Any:
    """DVC's view of `root` in which some files read as others."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    from flows.dvc.overlay import overlay

    logging.getLogger("dvc").setLevel(logging.ERROR)
    lock_file.speed_up()
    without_git.settle(root)
    try:
        return Repo(str(root), fs=overlay(instead), _wait_for_lock=True)
    except DvcException as error:
        raise ResourceError(f"{root} is no DVC checkout ({_words(error)}); run from the project's root") from error


def _prepare(root: Path) -> None:
    """Go to the checkout, as DVC works from the current folder, and make the `python` of its commands this one."""
    if Path.cwd() != root.resolve():
        os.chdir(root)
    here = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", "")
    if path.split(os.pathsep)[0] != here:
        os.environ["PATH"] = f"{here}{os.pathsep}{path}"
    os.environ.setdefault("PYTHONUNBUFFERED", "1")


def _descendants(graph: Any, changed: list[str]) -> dict[str, str]:
    """Stages behind the changed ones, each with one of the stages that drag it along."""
    import networkx as nx

    backwards = graph.reverse()
    found: dict[str, str] = {}
    for name in changed:
        for below in nx.descendants(backwards, name):
            found.setdefault(below, name)
    return {below: _nearest(graph, below, {*found, *changed}) for below in found}


def _nearest(graph: Any, name: str, moving: set[str]) -> str:
    return str(next(need for need in sorted(graph.successors(name)) if need in moving))


def _flat(changes: Mapping[str, Any]) -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for name, what in changes.items():
        inner = what if isinstance(what, dict) else {name: what}
        flat += [(str(key), str(value)) for key, value in inner.items()]
    return flat


def _code(error: BaseException) -> int | None:
    """Exit status of the stage's command; DVC gives it only in the text of its error."""
    found = re.search(r"exited with (-?\d+)", str(error))
    return int(found.group(1)) if found else None


def _interrupted(error: BaseException) -> bool:
    """Ctrl-C reaches the command too, and DVC hides it from this process: 130 by the shell, -2 directly."""
    return _code(error) in (130, -2)


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
