"""The model registry: register a package, promote it by a passed verdict, roll back, show; every change in a ledger."""

from __future__ import annotations

import argparse
import getpass
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from tasks import config, ledger, paths
from tasks.errors import EXIT_BAD_INPUT, EXIT_FAIL, EXIT_INCONCLUSIVE, RegistryError
from tasks.ledger import LEDGER, Entry
from tasks.packaging import how_to_run
from tasks.records import Backend, GateReport, Outcome, Record
from tasks.stage import run_stage

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
SQLITE = "sqlite:///"
LOCK = Path("mlruns/.registry.lock")
LOCKFILE = Path("requirements.lock")
CODE = Path(__file__).parent  # this package: a logged model carries it, so that it loads anywhere

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
PATIENCE_S = 600  # how long one process waits for another that changes the store
PENDING = "rollback-pending"  # marks a rollback under way, so that one that was cut off is finished, not repeated

DIGEST, RESULTS, VARIANT, VERDICT, MANIFEST = (
    "edgewright.digest", "edgewright.results_digest", "edgewright.variant", "edgewright.verdict",
    "edgewright.manifest_sha256",
)  # fmt: skip

PACKAGE = "artifacts/package"  # inside a logged model
NEW_TOKENS = 64  # of an answer, unless the caller says otherwise
NEEDED = ("mlflow", "numpy", "pandas", "pydantic", "pyyaml", "tokenizers", "jinja2")
EXTRA: dict[Backend, tuple[str, ...]] = {"mlx": ("mlx-cpu", "mlx-metal")}  # chosen by markers in the lock
SETTINGS = {  # for whatever the user has not set
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
EXIT_CODES: dict[Outcome, int] = {
    "pass": EXIT_BAD_INPUT,
    "fail": EXIT_FAIL,
    "unreachable": EXIT_FAIL,
    "inconclusive": EXIT_INCONCLUSIVE,
}


class PromotionRefusedError(RegistryError):
    """A version may not become champion; the exit code is that of the verdict (1 fail, 3 inconclusive, else 2)."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        super().__init__(message)
        self.exit_code = EXIT_CODES[outcome]


class Located(Record):
    """A version's package on this machine."""

    version: str
    package: Path
    manifest_sha256: str


class Change(Record):
    """What promote or rollback did."""

    changed: bool
    champion: str
    previous: str | None
    reason: str


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the database in mlruns/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def database(uri: str) -> Path | None:
    """The file behind an SQLite address; None for a server."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def shown(uri: str) -> str:
    """The address without user name and password, fit for logs and records.

    >>> shown("https://ann:secret@mlflow.example:5000/x")
    'https://mlflow.example:5000/x'
    """
    return _without_login(uri, uri)


def _without_login(text: str, uri: str) -> str:
    login, at, _ = urlsplit(uri).netloc.rpartition("@")
    return text.replace(login + at, "") if at else text


def actor() -> str:
    """Who acts: $EDGEWRIGHT_ACTOR, or the user's name."""
    try:
        return os.environ.get("EDGEWRIGHT_ACTOR") or getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"


@contextmanager
def reaching(repeat: str) -> Iterator[Any]:
    """An MlflowClient for the configured store; a failure becomes a RegistryError that names the command `repeat`.

    Only one process of this machine changes the store at a time.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    uri = tracking_uri()
    file = database(uri)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        mlflow.set_tracking_uri(uri)
        with FileLock(LOCK, timeout=PATIENCE_S):
            yield mlflow.MlflowClient()
    except (MlflowException, SQLAlchemyError, OSError) as error:
        said = _without_login(str(error).strip() or type(error).__name__, uri).splitlines()[0]
        raise RegistryError(
            f"MLflow at {shown(uri)} did not do its part: {said[:300]}. The results are kept in {paths.ARTIFACTS}/. "
            f"Start that server, or set MLFLOW_TRACKING_URI to another or to nothing, and repeat with `{repeat}`"
        ) from error


def requirements(backend: Backend, lock: Path = LOCKFILE) -> list[str]:
    """What has to be installed to load a logged package, as pinned by the lock file."""
    wanted = {*NEEDED, *how_to_run.PACKAGES[backend], *EXTRA.get(backend, ())}
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.is_file() else []
    pinned = [line.strip() for line in lines if re.split(r"[=<>~!; \[]", line, maxsplit=1)[0] in wanted]
    absent = wanted - {re.split(r"[=<>~!; \[]", line, maxsplit=1)[0] for line in pinned}
    return pinned + sorted(absent - {*EXTRA.get(backend, ())})


def log_model(run_id: str, package: Path, backend: Backend, tags: Mapping[str, str]) -> str:
    """Log a package as a pyfunc under a run and return its model id; the caller is inside `reaching`."""
    import mlflow

    with mlflow.start_run(run_id=run_id), warnings.catch_warnings():
        # An example would be answered while logging, which loads the whole model; the signature is given instead.
        warnings.filterwarnings("ignore", ".*input example", UserWarning)
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(CODE / "pyfunc.py"),
            code_paths=[str(CODE)],
            artifacts={"package": str(package)},
            model_config={"manifest_sha256": tags[MANIFEST]},
            pip_requirements=requirements(backend),
            signature=signature(),
            tags=dict(tags),
        )
    return str(info.model_id)


def signature() -> Any:
    """What the model takes and gives: a column `prompt`, the parameter `max_new_tokens`, a list of texts."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "prompt")]),
        outputs=Schema([ColSpec(DataType.string)]),
        params=ParamSchema([ParamSpec("max_new_tokens", DataType.long, NEW_TOKENS)]),
    )


def register(client: Any, name: str, model_id: str, run_id: str, tags: Mapping[str, str]) -> str:
    """Make a logged model a version of `name` with alias `candidate`; returns the version."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"models:/{model_id}"
    made = client.create_model_version(name, source, run_id=run_id, model_id=model_id, tags=dict(tags))
    client.set_registered_model_alias(name, CANDIDATE, made.version)
    return str(made.version)


def promote(
    name: str, version: str | None, report: GateReport, who: str, why: str, book: Path = LEDGER
) -> Change:  # fmt: skip
    """Make `version` (None: the candidate) champion if `report` is a passed verdict about that very version.

    The old champion becomes `previous`. Doing it twice changes nothing. Raises PromotionRefusedError when the verdict
    is not a pass or is about something else, RegistryError when there is no such model or version.
    """
    with reaching("python -m tasks.registry promote") as client:
        aliases = _aliases(client, name)
        chosen = version or aliases.get(CANDIDATE)
        if chosen is None:
            raise RegistryError(f"{name} has no version with alias {CANDIDATE}; run `python -m tasks.track` first")
        _require_passed(name, chosen, report, _tags(client, name, chosen))
        if PENDING in aliases:
            client.delete_registered_model_alias(name, PENDING)
        champion, previous = aliases.get(CHAMPION), aliases.get(PREVIOUS)
        if champion == chosen:
            change = Change(
                changed=False, champion=chosen, previous=previous, reason=f"version {chosen} is champion already"
            )
            known = any(e.to_version == chosen for e in ledger.read(book, name).entries)
            champion = previous  # if it is unknown here, a promotion was cut off before its line was written
        else:
            if champion is not None:
                client.set_registered_model_alias(name, PREVIOUS, champion)
            client.set_registered_model_alias(name, CHAMPION, chosen)
            reason = f"version {chosen} is champion" + (f", version {champion} is {PREVIOUS}" if champion else "")
            change, known = Change(changed=True, champion=chosen, previous=champion, reason=reason), False
        if not known:
            _write(book, "promote", name, (champion, chosen), who, why, report.results_digest)
        return change


def rollback(name: str, who: str, why: str, book: Path = LEDGER) -> Change:
    """Swap champion and previous; a rollback that was cut off is finished instead of begun anew.

    Raises RegistryError when there is nothing to go back to.
    """
    with reaching("python -m tasks.registry rollback") as client:
        aliases = _aliases(client, name)
        champion, previous = aliases.get(CHAMPION), aliases.get(PREVIOUS)
        target = aliases.get(PENDING) or previous
        if champion is None or target is None or (PENDING not in aliases and champion == previous):
            raise RegistryError(f"{name} has no {PREVIOUS} version to go back to; its champion is {champion or 'none'}")
        left = champion if champion != target else str(previous)
        written = champion == target and _last(book, name) == ("rollback", left, target)
        client.set_registered_model_alias(name, PENDING, target)
        client.set_registered_model_alias(name, PREVIOUS, left)
        client.set_registered_model_alias(name, CHAMPION, target)
        if not written:
            _write(book, "rollback", name, (left, target), who, why, _tags(client, name, target).get(RESULTS, ""))
        client.delete_registered_model_alias(name, PENDING)
        reason = f"version {target} is champion again, version {left} is {PREVIOUS}"
        return Change(changed=True, champion=target, previous=left, reason=reason)


def champion(name: str) -> str | None:
    """The version with the alias champion."""
    with reaching("python -m tasks.promotion status") as client:
        return _aliases(client, name).get(CHAMPION)


def settle(name: str, version: str, back: bool, who: str, why: str, book: Path = LEDGER) -> Change:
    """Let the alias follow the traffic: make `version` champion, whose own tags say that it passed.

    `back` says in the ledger that callers were led back to it. Doing it twice changes nothing, also where the first
    time was cut off. Raises PromotionRefusedError for a version whose verdict is no pass.
    """
    with reaching("python -m tasks.promotion status") as client:
        aliases, tags = _aliases(client, name), _tags(client, name, version)
        if tags.get(VERDICT) != "pass":
            verdict = tags.get(VERDICT, "unknown")
            raise PromotionRefusedError(f"{name} version {version} stays what it is: its verdict is {verdict}", "fail")
        old, action = aliases.get(CHAMPION), "rollback" if back else "promote"
        if old == version:
            last = _last(book, name)
            if last is None or last[2] != version:  # the alias was moved and the line was not written
                _write(book, action, name, (aliases.get(PREVIOUS), version), who, why, tags.get(RESULTS, ""))
            return Change(changed=False, champion=version, previous=aliases.get(PREVIOUS), reason="it is already")
        if old is not None:
            client.set_registered_model_alias(name, PREVIOUS, old)
        client.set_registered_model_alias(name, CHAMPION, version)
        _write(book, action, name, (old, version), who, why, tags.get(RESULTS, ""))
        return Change(changed=True, champion=version, previous=old, reason=f"version {version} is champion")


def show(name: str, book: Path = LEDGER) -> list[str]:
    """Versions with their aliases and verdicts, newest first, then the ledger, oldest first."""
    with reaching("python -m tasks.registry show") as client:
        names: dict[str, list[str]] = {}
        for alias, version in sorted(_aliases(client, name).items()):
            names.setdefault(version, []).append(alias)
        found = sorted(client.search_model_versions(f"name = '{name}'"), key=lambda v: -int(v.version))
    lines = [
        f"{name} version {v.version}: {v.tags.get(VARIANT, '?')}, verdict {v.tags.get(VERDICT, '?')}, "
        f"{', '.join(names.get(str(v.version), ['no alias']))}"
        for v in found
    ]
    history = ledger.read(book, name)
    lines += [
        f"{e.when} {e.who} {e.action}: {e.from_version or 'none'} -> {e.to_version}, {e.why}" for e in history.entries
    ]
    return lines + ([f"{book}: {history.unreadable} unreadable lines"] if history.unreadable else [])


def located(name: str, version: str) -> Located:
    """The package of a version, given by number or alias, fetched where it is not on this machine.

    Raises RegistryError for a version that is not there, or whose verdict is not a pass.
    """
    from mlflow.artifacts import download_artifacts

    with reaching("python -m tasks.serve") as client:
        number = version if version.isdigit() else _aliases(client, name).get(version)
        if number is None:
            raise RegistryError(f"{name} has no {version}; `make run` promotes what passes, `make promote` by hand")
        tags = _tags(client, name, number)
        if tags.get(VERDICT) != "pass":
            raise RegistryError(f"{name} version {number} is not served: its verdict is {tags.get(VERDICT, 'unknown')}")
        model = Path(download_artifacts(artifact_uri=f"models:/{name}/{number}"))
        return Located(version=number, package=model / PACKAGE, manifest_sha256=tags[MANIFEST])


def passed(name: str) -> tuple[Located, ...]:
    """Every version that passed its gates, the newest first, its package on this machine."""
    with reaching("python -m tasks.registry show") as client:
        found = client.search_model_versions(f"name = '{name}'")
        numbers = sorted((int(one.version) for one in found if one.tags.get(VERDICT) == "pass"), reverse=True)
    return tuple(located(name, str(number)) for number in numbers)


def tag(name: str, version: str, key: str, value: str) -> None:
    """Say something of a version, for those who look at it."""
    with reaching("python -m tasks.registry show") as client:
        client.set_model_version_tag(name, version, key, value)


def _aliases(client: Any, name: str) -> dict[str, str]:
    from mlflow.exceptions import MlflowException

    try:
        return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise RegistryError(f"the registry has no model {name!r}; run `python -m tasks.track` first") from None


def _tags(client: Any, name: str, version: str) -> dict[str, str]:
    from mlflow.exceptions import MlflowException

    try:
        return dict(client.get_model_version(name, version).tags)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise RegistryError(
            f"{name} has no version {version!r}; `python -m tasks.registry show` lists what there is"
        ) from None


def _require_passed(name: str, version: str, report: GateReport, tags: Mapping[str, str]) -> None:
    """Raise PromotionRefusedError unless the report is a pass and speaks of exactly this version."""
    refused = f"{name} version {version} stays what it is"
    verdicts: dict[str | None, Outcome] = {v.variant: v.outcome for v in report.verdicts}
    outcome = report.outcome if report.outcome != "pass" else verdicts.get(report.winner, "inconclusive")
    if outcome != "pass":
        raise PromotionRefusedError(f"{refused}: the verdict is {outcome} ({report.reason})", outcome)
    for tag, expected in ((VERDICT, "pass"), (RESULTS, report.results_digest), (VARIANT, str(report.winner))):
        if tags.get(tag) != expected:
            raise PromotionRefusedError(
                f"{refused}: the verdict in hand is about other results (tag {tag} is {tags.get(tag) or 'absent'}, "
                f"the verdict says {expected}); run `dvc repro`, or roll back with `python -m tasks.registry rollback`",
                "pass",
            )


def _last(book: Path, name: str) -> tuple[str, str | None, str] | None:
    """What the model's last line in the ledger says."""
    entries = ledger.read(book, name).entries
    return (entries[-1].action, entries[-1].from_version, entries[-1].to_version) if entries else None


def _write(book: Path, action: Any, name: str, move: tuple[str | None, str], who: str, why: str, digest: str) -> None:
    old, new = move
    line = {"when": ledger.now(), "who": who, "action": action, "model": name, "from_version": old, "to_version": new}
    ledger.append(book, Entry.model_validate(line | {"why": why, "verdict_digest": digest}))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tasks.registry", description=__doc__)
    actions = made.add_subparsers(dest="action", required=True)
    up = actions.add_parser("promote", help="make a version champion, by the passed verdict in artifacts/gate")
    up.add_argument("--version", help="a version's number; left out, the candidate")
    back = actions.add_parser("rollback", help="swap champion and previous")
    for one, usual in ((up, "passed every gate"), (back, "rolled back by hand")):
        one.add_argument("--why", default=usual, help="the reason, for the ledger")
    actions.add_parser("show", help="versions, aliases and the ledger")
    for one in actions.choices.values():
        one.add_argument("--model", help="a registered model's name; left out, track.model_name of params.yaml")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run one action; exit 0 done, 1 refused by a failed verdict, 2 bad input, 3 refused as inconclusive."""
    arguments = parser().parse_args(argv)

    def work() -> None:
        name = arguments.model or config.load().track.model_name
        if arguments.action == "show":
            print("\n".join(show(name)))
        elif arguments.action == "rollback":
            print(f"{name}: {rollback(name, actor(), arguments.why).reason}")
        else:
            report = GateReport.read(paths.VERDICTS)
            print(f"{name}: {promote(name, arguments.version, report, actor(), arguments.why).reason}")

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
