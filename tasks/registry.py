"""The model registry: register a version, promote it by a passed verdict, roll back, and show how it came about.

Aliases: `candidate` is the newest version, `champion` the promoted one, `previous` the champion before it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks import config, ledger, paths
from tasks.errors import RegistryError
from tasks.records import GateReport
from tasks.stage import run_stage

STORE = Path("mlruns")
CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
VERDICT, EVIDENCE, VARIANT = "edgewright.verdict", "edgewright.results_digest", "edgewright.variant"


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else the SQLite database of this checkout."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{STORE / 'mlflow.db'}"


@contextmanager
def answering(what: str) -> Iterator[None]:
    """Turn MLflow's and the network's errors into a RegistryError that says what is kept and what to do."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, requests.RequestException, SQLAlchemyError, ConnectionError) as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise RegistryError(
            f"MLflow at {tracking_uri()} could not {what}: {reason}. Results are kept; when it answers again, "
            "`python -m tasks.track` and `make promote` repeat this alone"
        ) from error


def client() -> Any:
    """An MLflow client for the tracking URI; a server gets ten seconds and one retry."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    import mlflow

    STORE.mkdir(exist_ok=True)
    mlflow.set_tracking_uri(tracking_uri())
    mlflow.set_registry_uri(tracking_uri())
    return mlflow.MlflowClient()


def register(name: str, model_uri: str, run_id: str, verdicts: GateReport) -> str:
    """Register the logged model of a winner once and give it the alias `candidate`; returns the version."""
    found = client()
    known = [v for v in versions(found, name) if v.tags.get(EVIDENCE) == verdicts.results_digest and v.run_id == run_id]
    if known:
        return str(known[0].version)
    if not found.search_registered_models(filter_string=f"name = '{name}'"):
        found.create_registered_model(name)
    tags = {VERDICT: verdicts.outcome, EVIDENCE: verdicts.results_digest, VARIANT: str(verdicts.winner)}
    version = str(found.create_model_version(name, model_uri, run_id=run_id, tags=tags).version)
    found.set_registered_model_alias(name, CANDIDATE, version)
    ledger.append("register", name, version, None, verdicts.reason, verdicts.results_digest)
    return version


def versions(found: Any, name: str) -> list[Any]:
    """All versions of a model, newest first."""
    listed = found.search_model_versions(f"name = '{name}'")
    return sorted(listed, key=lambda version: -int(version.version))


def alias(found: Any, name: str, which: str) -> str | None:
    """The version an alias stands for, None when it stands for none."""
    listed = found.search_registered_models(filter_string=f"name = '{name}'")
    aliases = dict(listed[0].aliases) if listed else {}
    return str(aliases[which]) if which in aliases else None


def promote(name: str, verdicts: GateReport, version: str | None = None, why: str = "") -> str:
    """Make a version the champion; only a passed verdict on these very results can do it. Repeating it adds nothing.

    Raises RegistryError when the verdict is not `pass`, belongs to other results, or the version is unknown.
    """
    with answering("promote"):
        found = client()
        wanted = version or alias(found, name, CANDIDATE)
        known = {str(v.version): v for v in versions(found, name)}
        if wanted is None or wanted not in known:
            have = ", ".join(known) or "none"
            raise RegistryError(f"{name} has no version {wanted or 'with the alias candidate'}; versions: {have}")
        refuse_without_verdict(name, wanted, known[wanted].tags, verdicts)
        champion = alias(found, name, CHAMPION)
        if champion == wanted:
            return wanted
        # previous first: a kill between the two leaves the old champion in place, and repeating ends the job
        if champion is not None:
            found.set_registered_model_alias(name, PREVIOUS, champion)
        found.set_registered_model_alias(name, CHAMPION, wanted)
        ledger.append("promote", name, wanted, champion, why or verdicts.reason, verdicts.results_digest)
        return wanted


def refuse_without_verdict(name: str, version: str, tags: dict[str, str], verdicts: GateReport) -> None:
    """Raise RegistryError unless version and verdict belong together and the verdict is `pass`.

    A version that passed earlier carries its own verdict in its tags and may be promoted again.
    """
    if tags.get(VERDICT) != "pass":
        raise RegistryError(
            f"{name} version {version} is not promoted: its verdict is {tags.get(VERDICT, 'absent')}; "
            "only a passed one allows it"
        )
    if tags.get(EVIDENCE) == verdicts.results_digest and verdicts.outcome != "pass":
        raise RegistryError(f"{name} version {version} is not promoted: the gates now say {verdicts.outcome}")


def rollback(name: str, why: str = "") -> tuple[str, str]:
    """Swap champion and previous; returns the new and the old champion."""
    with answering("roll back"):
        found = client()
        champion, previous = alias(found, name, CHAMPION), alias(found, name, PREVIOUS)
        if champion is None or previous is None:
            raise RegistryError(f"{name} has no {'champion' if champion is None else 'previous version'} to go back to")
        tags = {str(v.version): v.tags for v in versions(found, name)}.get(previous, {})
        found.set_registered_model_alias(name, CHAMPION, previous)
        found.set_registered_model_alias(name, PREVIOUS, champion)
        ledger.append("rollback", name, previous, champion, why or "asked for", tags.get(EVIDENCE, ""))
        return previous, champion


def show(name: str) -> str:
    """Aliases and ledger in words."""
    with answering("be read"):
        found = client()
        lines = [f"{name} at {tracking_uri()}"]
        for which in (CHAMPION, PREVIOUS, CANDIDATE):
            lines.append(f"  {which:<10} {alias(found, name, which) or 'none'}")
    for entry in ledger.read():
        if entry.model == name:
            over = f" over {entry.replaced}" if entry.replaced else ""
            lines.append(f"  {entry.when}  {entry.who}  {entry.what} {entry.version}{over}: {entry.why}")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """Command line of the registry."""
    made = argparse.ArgumentParser(prog="python -m tasks.registry", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    promoting = commands.add_parser("promote", help="make a passed version the champion")
    promoting.add_argument("--version", help="default: the version with the alias candidate")
    promoting.add_argument("--why", default="", help="for the ledger")
    back = commands.add_parser("rollback", help="swap champion and previous")
    back.add_argument("--why", default="", help="for the ledger")
    commands.add_parser("show", help="aliases and ledger")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    arguments = parser().parse_args(argv)

    def work() -> None:
        name = config.load().track.model_name
        if arguments.command == "promote":
            version = promote(name, GateReport.read(paths.VERDICTS), arguments.version, arguments.why)
            print(f"{name} version {version} is champion")
        elif arguments.command == "rollback":
            new, old = rollback(name, arguments.why)
            print(f"{name} version {new} is champion again, {old} is previous")
        else:
            print(show(name))

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
