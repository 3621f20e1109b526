"""A registered model with versions that are about the same passed results, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.registry.aliases import CANDIDATE
from tasks.registry.tags import RESULTS, VARIANT, VERDICT
from tests import factories as make
from tests.finished import WINNER, report

NAME = "tiny"
REPORT = report(make.recommendation(make.row(WINNER)))
TAGS = {VERDICT: "pass", RESULTS: REPORT.results_digest, VARIANT: WINNER}


def version(client: Any, tags: Mapping[str, str] = TAGS, candidate: bool = True) -> str:
    """Register one more version; returns its number."""
    made = client.create_model_version(NAME, Path.cwd().as_uri(), tags=dict(tags))
    if candidate:
        client.set_registered_model_alias(NAME, CANDIDATE, made.version)
    return str(made.version)


def aliases(client: Any) -> dict[str, str]:
    """Version per alias, as MLflow's own client says."""
    return {alias: str(v) for alias, v in client.get_registered_model(NAME).aliases.items()}
