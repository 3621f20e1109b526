"""Aliases: which version is candidate, champion, previous; and what a version says of itself."""

from __future__ import annotations

from typing import Any

from tasks.errors import RegistryError

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
PENDING = "rollback-pending"  # marks a rollback under way, so that one that was cut off is finished, not repeated


def aliases(client: Any, name: str) -> dict[str, str]:
    """Version per alias of a registered model; raises RegistryError when there is no such model."""
    from mlflow.exceptions import MlflowException

    try:
        return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise RegistryError(f"the registry has no model {name!r}; run `python -m tasks.track` first") from None


def tags(client: Any, name: str, version: str) -> dict[str, str]:
    """Read what a version says of itself; raises RegistryError when there is no such version."""
    from mlflow.exceptions import MlflowException

    try:
        return dict(client.get_model_version(name, version).tags)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise RegistryError(
            f"{name} has no version {version!r}; `python -m tasks.registry show` lists what there is"
        ) from None


def move(client: Any, name: str, champion: str, previous: str | None) -> None:
    """Point the aliases: the previous version first, so that a cut between the two loses none."""
    if previous is not None:
        client.set_registered_model_alias(name, PREVIOUS, previous)
    client.set_registered_model_alias(name, CHAMPION, champion)
