"""Versions of a registered model: register, promote by a passed verdict, roll back, follow the traffic, find."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.errors import EXIT_BAD_INPUT, EXIT_FAIL, EXIT_INCONCLUSIVE, RegistryError
from tasks.records import lines
from tasks.records.base import Record
from tasks.records.terms import Outcome
from tasks.records.verdict import GateReport
from tasks.registry import aliases, ledger, precedence
from tasks.registry.aliases import CANDIDATE as CANDIDATE
from tasks.registry.aliases import CHAMPION as CHAMPION
from tasks.registry.aliases import PENDING, PREVIOUS
from tasks.registry.ledger import LEDGER, Entry
from tasks.registry.logged_model import PACKAGE
from tasks.registry.store import actor as actor
from tasks.registry.store import reaching
from tasks.registry.tags import MANIFEST, PROFILE, RESULTS, VARIANT, VERDICT

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


class WeakerError(PromotionRefusedError):
    """A version stands on less than the champion does; it takes its place only when that is asked for."""

    def __init__(self, name: str, version: str, champion: str, reason: str) -> None:
        super().__init__(
            f"{name} version {version} does not take the place of champion version {champion}, which passed more: "
            f"{reason}. `make promote VERSION={version} FORCE=1` promotes it all the same, and the ledger will say so",
            "pass",
        )


class Located(Record):
    """A version's package on this machine."""

    version: str
    package: Path
    manifest_sha256: str


class Change(Record):
    """Outcome of a promotion or a rollback."""

    changed: bool
    champion: str
    previous: str | None
    reason: str


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


def promote(name: str, version: str | None, report: GateReport, who: str, why: str, anyway: bool = False) -> Change:
    """Make `version` (None: the candidate) champion if `report` is a passed verdict about that very version.

    The old champion becomes `previous`. Doing it twice changes nothing. Raises PromotionRefusedError when the verdict
    is not a pass or is about something else, WeakerError when the champion passed more, unless it is to be promoted
    `anyway`, RegistryError when there is no such model or version.
    """
    with reaching("python -m tasks.registry promote") as client:
        known = aliases.aliases(client, name)
        chosen = version or known.get(CANDIDATE)
        if chosen is None:
            raise RegistryError(f"{name} has no version with alias {CANDIDATE}; run `python -m tasks.track` first")
        _require_passed(name, chosen, report, aliases.tags(client, name, chosen))
        despite = _objection(client, name, chosen, known.get(CHAMPION))
        if despite and not anyway:
            raise WeakerError(name, chosen, known[CHAMPION], despite)
        if PENDING in known:
            client.delete_registered_model_alias(name, PENDING)
        old, previous = known.get(CHAMPION), known.get(PREVIOUS)
        if old == chosen:
            if all(entry.to_version != chosen for entry in ledger.read(LEDGER, name).entries):
                # A promotion was cut off before its line was written.
                _write("promote", name, (previous, chosen), (who, why), report.results_digest)
            reason = f"version {chosen} is champion already"
            return Change(changed=False, champion=chosen, previous=previous, reason=reason)
        aliases.move(client, name, chosen, old)
        _write("promote", name, (old, chosen), (who, why), report.results_digest, despite)
        reason = f"version {chosen} is champion" + (f", version {old} is {PREVIOUS}" if old else "")
        return Change(changed=True, champion=chosen, previous=old, reason=reason)


def rollback(name: str, who: str, why: str) -> Change:
    """Swap champion and previous; a rollback that was cut off is finished instead of begun anew.

    Raises RegistryError when there is nothing to go back to.
    """
    with reaching("python -m tasks.registry rollback") as client:
        known = aliases.aliases(client, name)
        old, previous = known.get(CHAMPION), known.get(PREVIOUS)
        target = known.get(PENDING) or previous
        if old is None or target is None or (PENDING not in known and old == previous):
            raise RegistryError(f"{name} has no {PREVIOUS} version to go back to; its champion is {old or 'none'}")
        left = old if old != target else str(previous)
        last = ledger.last(LEDGER, name)
        done = last is not None and (last.action, last.from_version, last.to_version) == ("rollback", left, target)
        client.set_registered_model_alias(name, PENDING, target)
        aliases.move(client, name, target, left)
        if old != target or not done:
            digest = aliases.tags(client, name, target).get(RESULTS, "")
            _write("rollback", name, (left, target), (who, why), digest)
        client.delete_registered_model_alias(name, PENDING)
        reason = f"version {target} is champion again, version {left} is {PREVIOUS}"
        return Change(changed=True, champion=target, previous=left, reason=reason)


def require_not_weaker(name: str, version: str) -> None:
    """Raise WeakerError when the champion passed more than `version` did."""
    with reaching("make promote") as client:
        holder = aliases.aliases(client, name).get(CHAMPION)
        reason = _objection(client, name, version, holder)
        if holder is not None and reason:
            raise WeakerError(name, version, holder, reason)


def champion(name: str) -> str | None:
    """The version with the alias champion."""
    with reaching("python -m tasks.promotion status") as client:
        return aliases.aliases(client, name).get(CHAMPION)


def follow(name: str, version: str, back: bool, who: str, why: str) -> Change:
    """Let the alias follow the traffic: make `version` champion, whose own tags say that it passed.

    `back` says in the ledger that callers were led back to it. Doing it twice changes nothing, also where the first
    time was cut off. Raises PromotionRefusedError for a version whose verdict is no pass.
    """
    with reaching("python -m tasks.promotion status") as client:
        known, tags = aliases.aliases(client, name), aliases.tags(client, name, version)
        if tags.get(VERDICT) != "pass":
            verdict = tags.get(VERDICT, "unknown")
            raise PromotionRefusedError(f"{name} version {version} stays what it is: its verdict is {verdict}", "fail")
        old, action, digest = known.get(CHAMPION), "rollback" if back else "promote", tags.get(RESULTS, "")
        if old == version:
            last = ledger.last(LEDGER, name)
            if last is None or last.to_version != version:  # the alias was moved and the line was not written
                _write(action, name, (known.get(PREVIOUS), version), (who, why), digest)
            return Change(changed=False, champion=version, previous=known.get(PREVIOUS), reason="it is already")
        despite = "" if back else _objection(client, name, version, old)
        aliases.move(client, name, version, old)
        _write(action, name, (old, version), (who, why), digest, despite)
        return Change(changed=True, champion=version, previous=old, reason=f"version {version} is champion")


def show(name: str) -> list[str]:
    """Versions with their aliases and verdicts, newest first, then the ledger, oldest first."""
    with reaching("python -m tasks.registry show") as client:
        names: dict[str, list[str]] = {}
        for alias, version in sorted(aliases.aliases(client, name).items()):
            names.setdefault(version, []).append(alias)
        found = sorted(client.search_model_versions(f"name = '{name}'"), key=lambda v: -int(v.version))
    shown = [
        f"{name} version {v.version}: {v.tags.get(VARIANT, '?')}, verdict {v.tags.get(VERDICT, '?')}"
        f"{' by profile ' + v.tags[PROFILE] if PROFILE in v.tags else ''}, "
        f"{', '.join(names.get(str(v.version), ['no alias']))}"
        for v in found
    ]
    history = ledger.read(LEDGER, name)
    shown += [
        f"{e.when} {e.who} {e.action}: {e.from_version or 'none'} -> {e.to_version}, {e.why}"
        + (f" (although {e.despite})" if e.despite else "")
        for e in history.entries
    ]
    return shown + ([f"{LEDGER}: {history.unreadable} unreadable lines"] if history.unreadable else [])


def located(name: str, version: str) -> Located:
    """The package of a version, given by number or alias, fetched where it is not on this machine.

    Raises RegistryError for a version that is not there, or whose verdict is not a pass.
    """
    from mlflow.artifacts import download_artifacts

    with reaching("python -m tasks.serve") as client:
        number = version if version.isdigit() else aliases.aliases(client, name).get(version)
        if number is None:
            raise RegistryError(f"{name} has no {version}; `make run` promotes what passes, `make promote` by hand")
        tags = aliases.tags(client, name, number)
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


def _objection(client: Any, name: str, version: str, champion: str | None) -> str:
    """Why a version is weaker than the champion; empty when it is not, or is the champion itself."""
    if champion is None or champion == version:
        return ""
    candidate, holder = (precedence.from_tags(aliases.tags(client, name, one)) for one in (version, champion))
    return precedence.weaker(candidate, holder)


def _write(
    action: str, name: str, move: tuple[str | None, str], by: tuple[str, str], digest: str, despite: str = ""
) -> None:
    """Add a line to the ledger; `move` is from and to, `by` is who and why."""
    (old, new), (who, why) = move, by
    line = {"when": lines.now(), "who": who, "action": action, "model": name, "from_version": old, "to_version": new}
    lines.append(LEDGER, Entry.model_validate(line | {"why": why, "verdict_digest": digest, "despite": despite}))
