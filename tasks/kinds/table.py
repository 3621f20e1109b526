"""The kinds of models by name, and the module of a kind that answers one question."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
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
    Transforming,
)
from tasks.kinds.catalogue import Catalogue

if TYPE_CHECKING:  # each kind's modules keep the protocols
    from tasks.kinds.causal_lm import checking as causal_lm_checking
    from tasks.kinds.causal_lm import describing as causal_lm_describing
    from tasks.kinds.causal_lm import expanding as causal_lm_expanding
    from tasks.kinds.causal_lm import packing as causal_lm_packing
    from tasks.kinds.causal_lm import predicting as causal_lm_predicting
    from tasks.kinds.causal_lm import preparing as causal_lm_preparing
    from tasks.kinds.causal_lm import scoring as causal_lm_scoring
    from tasks.kinds.causal_lm import workload as causal_lm_workload
    from tasks.kinds.image_classifier import checking as image_classifier_checking
    from tasks.kinds.image_classifier import describing as image_classifier_describing
    from tasks.kinds.image_classifier import expanding as image_classifier_expanding
    from tasks.kinds.image_classifier import packing as image_classifier_packing
    from tasks.kinds.image_classifier import predicting as image_classifier_predicting
    from tasks.kinds.image_classifier import preparing as image_classifier_preparing
    from tasks.kinds.image_classifier import scoring as image_classifier_scoring
    from tasks.kinds.image_classifier import workload as image_classifier_workload
    from tasks.kinds.onnx_file import checking as onnx_file_checking
    from tasks.kinds.onnx_file import describing as onnx_file_describing
    from tasks.kinds.onnx_file import expanding as onnx_file_expanding
    from tasks.kinds.onnx_file import packing as onnx_file_packing
    from tasks.kinds.onnx_file import predicting as onnx_file_predicting
    from tasks.kinds.onnx_file import preparing as onnx_file_preparing
    from tasks.kinds.onnx_file import scoring as onnx_file_scoring
    from tasks.kinds.onnx_file import workload as onnx_file_workload
    from tasks.kinds.text_encoder import checking as text_encoder_checking
    from tasks.kinds.text_encoder import describing as text_encoder_describing
    from tasks.kinds.text_encoder import expanding as text_encoder_expanding
    from tasks.kinds.text_encoder import packing as text_encoder_packing
    from tasks.kinds.text_encoder import predicting as text_encoder_predicting
    from tasks.kinds.text_encoder import preparing as text_encoder_preparing
    from tasks.kinds.text_encoder import scoring as text_encoder_scoring
    from tasks.kinds.text_encoder import workload as text_encoder_workload

    _expanding: tuple[Expanding, ...] = (
        causal_lm_expanding,
        text_encoder_expanding,
        image_classifier_expanding,
        onnx_file_expanding,
    )
    _preparing: tuple[Preparing, ...] = (
        causal_lm_preparing,
        text_encoder_preparing,
        image_classifier_preparing,
        onnx_file_preparing,
    )
    _checking: tuple[Checking, ...] = (
        causal_lm_checking,
        text_encoder_checking,
        image_classifier_checking,
        onnx_file_checking,
    )
    _scoring: tuple[Scoring, ...] = (
        causal_lm_scoring,
        text_encoder_scoring,
        image_classifier_scoring,
        onnx_file_scoring,
    )
    _workload: tuple[Timing, ...] = (
        causal_lm_workload,
        text_encoder_workload,
        image_classifier_workload,
        onnx_file_workload,
    )
    _packing: tuple[Packing, ...] = (
        causal_lm_packing,
        text_encoder_packing,
        image_classifier_packing,
        onnx_file_packing,
    )
    _describing: tuple[Describing, ...] = (
        causal_lm_describing,
        text_encoder_describing,
        image_classifier_describing,
        onnx_file_describing,
    )
    _predicting: tuple[Predicting, ...] = (
        causal_lm_predicting,
        text_encoder_predicting,
        image_classifier_predicting,
        onnx_file_predicting,
    )

KINDS: dict[str, str] = {  # name -> package
    "causal-lm": "tasks.kinds.causal_lm",
    "text-encoder": "tasks.kinds.text_encoder",
    "image-classifier": "tasks.kinds.image_classifier",
    "onnx-file": "tasks.kinds.onnx_file",
}
FIRST = next(iter(KINDS))


def expanding(kind: str) -> Expanding:
    """Find the module that brings a model of this kind in."""
    found: Expanding = _module(kind, "expanding")
    return found


def preparing(kind: str) -> Preparing:
    """Find the module that prepares this kind's data."""
    found: Preparing = _module(kind, "preparing")
    return found


def transforming(kind: str) -> Transforming:
    """Find the module that changes checkpoints of this kind; raises ConfigError where it has none."""
    found: Transforming = _module(kind, "transforming")
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
    """The kind that takes `fetch.model` for its own; the first of the table is asked last, and says why none does."""
    return next((name for name in KINDS if name != FIRST and expanding(name).recognises(model)), FIRST)


def defaults_file(kind: str) -> Path | None:
    """The file with a kind's own data, gates and variants; None where params.yaml's are meant."""
    whole = _whole(kind)
    file = Path(str(whole.__file__)).with_name("params.yaml")
    return file if hasattr(whole, "__path__") and file.is_file() else None


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
