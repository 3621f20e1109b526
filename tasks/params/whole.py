"""All of params.yaml: what the stages are told, and what serving, promotion and monitoring are told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.params.load import PARAMS, load_params, parse_as, read_user
from tasks.params.pipeline import Params
from tasks.params.searching import Search
from tasks.params.serving import Promotion, Serve
from tasks.params.watching import Monitor


class Whole(Params):
    """The whole file after the profile's changes."""

    serve: Serve = Serve()
    promotion: Promotion = Promotion()
    monitor: Monitor = Monitor()
    search: Search = Search()
    kinds: dict[str, dict[str, Any]] = {}  # by kind of model: its own data, gate, recommend, variants and profiles


def load_whole(folder: Path = Path()) -> Whole:
    """Read and check everything; raises ConfigError naming the key, the reason and what is allowed.

    What no stage reads is as the user's files say now; the rest says what `artifacts/` holds, as the stages read it.
    """
    user = read_user(folder)
    own = parse_whole(user, str(folder / PARAMS))
    stages = {name: getattr(load_params(folder), name) for name in Params.model_fields}
    return own.model_copy(update=stages)


def parse_whole(raw: Mapping[str, Any], where: str = "params") -> Whole:
    """Check a mapping as the whole file; the profile's changes are applied first."""
    return parse_as(Whole, raw, where)
