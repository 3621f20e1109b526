"""Compose: what this run is told, out of params.yaml, params.local.yaml and the command, its profile resolved."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from tasks.errors import ConfigError
from tasks.kinds.composing import compose
from tasks.params.load import EFFECTIVE, LOCAL, PARAMS, TOLD, parse, read
from tasks.params.settings import Composed, Told
from tasks.run.stage import main_of

SAID = "EDGEWRIGHT_SETTINGS"  # in the environment: what `make run` was told, as JSON; not there under DVC alone


def said() -> dict[str, Any] | None:
    """Read what the command of this run said; None where DVC was called alone."""
    text = os.environ.get(SAID)
    if text is None:
        return None
    try:
        changes = json.loads(text)
    except ValueError:
        changes = None
    if not isinstance(changes, dict):
        raise ConfigError(f"{SAID}={text!r} must be a JSON object of dotted keys and values")
    return changes


def lines(composed: Composed, before: Told | None) -> list[str]:
    """Say what the run is about to use, and what the last one was told and this one is not."""
    params, told = composed.params, composed.told
    targets = ", ".join(
        name if name == target.device else f"{name} ({target.device})" for name, target in params.named_targets.items()
    )
    found = [
        f"compose: model {params.fetch.model}, target {targets}, profile {params.profile}; "
        f"{EFFECTIVE} of {', '.join(told.files)}" + (f" and {'; '.join(told.lines)}" if told.lines else "")
    ]
    gone = {key: value for key, value in (before.changes if before else {}).items() if key not in told.changes}
    if gone:
        words = ", ".join(f"{key}={value}" for key, value in gone.items())
        found.append(f"compose: the run before was told {words}; this one is not")
    return found


def check_variants(params: Mapping[str, Any], of_dvc: Mapping[str, Any]) -> None:
    """Refuse variants that DVC alone cannot know: it reads names, sources and backends out of params.yaml."""
    own, others = (
        {name: (variant["source"], variant["backend"]) for name, variant in each["variants"].items()}
        for each in (params, of_dvc)
    )
    differ = sorted(name for name in own if own[name] != others.get(name))
    if differ:
        raise ConfigError(
            f"{LOCAL}, or the kind of model, adds or changes the variants {', '.join(differ)}, and DVC alone reads "
            f"their names, sources and backends from {PARAMS}; write them there, or use `make run` or `make repro`"
        )


def work() -> None:
    """Compose the settings of this run, say what they are, and write them."""
    changes = said()
    composed = compose(changes or {})
    if changes is None:
        check_variants(composed.params.model_dump(), parse(read(PARAMS), str(PARAMS)).model_dump())
    for line in lines(composed, Told.read(TOLD) if TOLD.exists() else None):
        print(line, flush=True)
    composed.write()


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    return main_of("tasks.compose", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
