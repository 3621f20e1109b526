"""The kinds of models by name, and the module of a kind that answers one question."""

from __future__ import annotations

import difflib
import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tasks.errors import ConfigError
from tasks.kinds.base import (
    Checking,
    Describing,
    Expanding,
    Family,
    Packing,
    Predicting,
    Preparing,
    Scoring,
    Timing,
)
from tasks.kinds.catalogue import Catalogue

if TYPE_CHECKING:
    from tasks.kinds.causal_lm import checking as _checking
    from tasks.kinds.causal_lm import describing as _describing
    from tasks.kinds.causal_lm import expanding as _expanding
    from tasks.kinds.causal_lm import packing as _packing
    from tasks.kinds.causal_lm import predicting as _predicting
    from tasks.kinds.causal_lm import preparing as _preparing
    from tasks.kinds.causal_lm import scoring as _scoring
    from tasks.kinds.causal_lm import workload as _workload

    _expands: Expanding = _expanding
    _prepares: Preparing = _preparing
    _checks: Checking = _checking
    _scores: Scoring = _scoring
    _times: Timing = _workload
    _packs: Packing = _packing
    _describes: Describing = _describing
    _predicts: Predicting = _predicting

KINDS: dict[str, str] = {"causal-lm": "tasks.kinds.causal_lm"}  # name -> package
FIRST = next(iter(KINDS))


def expanding(kind: str) -> Expanding:
    """Find the module that brings a model of this kind in."""
    found: Expanding = _module(kind, "expanding")
    return found


def preparing(kind: str) -> Preparing:
    """Find the module that prepares this kind's data."""
    found: Preparing = _module(kind, "preparing")
    return found


def checking(kind: str) -> Checking:
    """Find the module that checks whether an artifact of this kind is what it claims."""
    found: Checking = _module(kind, "checking")
    return found


def scoring(kind: str) -> Scoring:
    """Find the module that scores artifacts of this kind."""
    found: Scoring = _module(kind, "scoring")
    return found


def timing(kind: str) -> Timing:
    """Find the module with the requests that artifacts of this kind are measured with."""
    found: Timing = _module(kind, "workload")
    return found


def packing(kind: str) -> Packing:
    """Find the module that adds what belongs beside a model of this kind in a package."""
    found: Packing = _module(kind, "packing")
    return found


def describing(kind: str) -> Describing:
    """Find the module that describes checkpoints of this kind."""
    found: Describing = _module(kind, "describing")
    return found


def predicting(kind: str) -> Predicting:
    """Find the module that opens packages of this kind."""
    found: Predicting = _module(kind, "predicting")
    return found


def family(kind: str) -> Family:
    """The family of sessions that this kind is run in."""
    found: Family = _whole(kind).FAMILY
    return found


def catalogue(kind: str = FIRST) -> Catalogue:
    """Find the catalogue of this kind's metrics; raises ConfigError where it has none."""
    found = getattr(_module(kind, "metrics"), "CATALOGUE", None)
    if not isinstance(found, Catalogue):
        raise ConfigError(f"kind of model {kind!r} has no CATALOGUE of its metrics")
    return found


def recognised(model: str) -> str:
    """The first kind that takes `fetch.model` for its own; where none does, the first of the table says why."""
    return next((name for name in KINDS if expanding(name).recognises(model)), next(iter(KINDS)))


def place_of(kind: str, question: str) -> str:
    """Name of the module of a kind that answers a question."""
    return str(_module(kind, question).__name__)


def _module(kind: str, question: str) -> Any:
    """The module of a kind that answers a question: one of its folder, or the kind's only file.

    A kind outside of the table is named as package.module. Raises ConfigError for one that is not there.
    """
    whole = _whole(kind)
    try:
        return importlib.import_module(f"{whole.__name__}.{question}") if hasattr(whole, "__path__") else whole
    except ImportError as error:
        raise ConfigError(f"kind of model {kind!r}: {error}") from error


def _whole(kind: str) -> ModuleType:
    place = KINDS.get(kind, kind if "." in kind else "")
    if not place:
        close = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"kind of model {kind!r} is not known; {hint}allowed: {', '.join(KINDS)}, or package.module")
    try:
        return importlib.import_module(place)
    except ImportError as error:
        raise ConfigError(f"kind of model {kind!r}: {error}") from error
