"""The knowledge in matrix.yaml and architectures.yaml, typed: what the planning functions look things up in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from tasks.backends.traits import Mark
from tasks.records.terms import Framework

FOLDER = Path(__file__).parent
Points = Annotated[float, Field(ge=0, le=1)]
Modality = Literal[
    "causal-lm",
    "text-encoder",
    "image-classifier",
    "onnx-file",
    "vision-language",
    "speech-to-text",
    "audio-classifier",
]


class Entry(BaseModel):
    """A part of the tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Platform(Entry):
    """A row of the hardware matrix."""

    answer: Literal["intel", "nvidia", "apple", "accelerator", "cross-platform"]
    primary: Framework
    secondary: Framework
    special: str


class Branch(Entry):
    """An answer's way on: to frameworks, or to the next question."""

    choose: tuple[Framework, ...] = ()
    next: str | None = None


class Question(Entry):
    ask: str
    fact: Literal["apple", "large", "stage", "platform", "model"]
    answers: dict[str, Branch]


class Tree(Entry):
    start: str
    questions: dict[str, Question]


class Preference(Entry):
    framework: Framework
    why: str


class Shares(Entry):
    platform: Points
    tree: Points
    requirements: Points
    order: Points


class PlatformPoints(Entry):
    primary: Points
    secondary: Points
    other: Points


class Table(Entry):
    """matrix.yaml."""

    marks: dict[Mark, Points]
    platforms: dict[str, Platform]
    families: dict[str, dict[str, str]]
    stands_in: dict[str, str]
    tree: Tree
    large_parameters: float
    orders: dict[Literal["prototyping", "enterprise"], tuple[Preference, ...]]
    shares: Shares
    platform_points: PlatformPoints


class Known(Entry):
    """Architectures that one framework converts of one modality; see the head of architectures.yaml."""

    known: tuple[str, ...] = ()
    types: tuple[str, ...] = ()  # model types, in place of architectures
    needs: str = ""  # what carries it there, of kinds that are assessed and not made here
    unsupported: dict[str, str] = {}
    closed: str = ""
    exported: str = ""
    modules: str = ""
    none: str = ""


@cache
def table() -> Table:
    """matrix.yaml, read once."""
    return Table.model_validate(yaml.safe_load((FOLDER / "matrix.yaml").read_text(encoding="utf-8")))


@cache
def architectures() -> dict[Framework, dict[Modality, Known]]:
    """Read once from architectures.yaml what each framework converts."""
    raw = yaml.safe_load((FOLDER / "architectures.yaml").read_text(encoding="utf-8"))
    return {
        framework: {modality: Known.model_validate(entry) for modality, entry in modalities.items()}
        for framework, modalities in raw["frameworks"].items()
    }


@cache
def mlx_aliases() -> dict[str, str]:
    """Model types that mlx-lm maps to another type's module."""
    raw = yaml.safe_load((FOLDER / "architectures.yaml").read_text(encoding="utf-8"))
    return dict(raw["mlx_aliases"])
