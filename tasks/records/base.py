"""A record: a frozen value with a JSON file form; units are part of every name."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from tasks.errors import DataError

T = TypeVar("T")


class Record(BaseModel):
    """A frozen value with a JSON file form; unknown keys are refused when read back."""

    # A figure that is no number is written as the text "NaN" or "Infinity", and read back as it was.
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), ser_json_inf_nan="strings")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the record at `path`; raises DataError naming the file when it is absent or broken."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise DataError(f"{path} does not exist; run the stage that writes it (`dvc repro`)") from None
        except ValidationError as error:
            raise DataError(f"{path} is not a {cls.__name__}: {error}; delete it and run `dvc repro`") from error

    def write(self, path: Path) -> None:
        """Write the record whole or not at all: to a temporary name, then rename."""
        write_text(path, self.model_dump_json(indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class Reading(Record, Generic[T]):
    """One observed value, or the reason why it is unknown; never neither."""

    value: T | None = None
    reason: str = ""

    @model_validator(mode="after")
    def _value_or_reason(self) -> Self:
        if self.value is None and not self.reason:
            raise ValueError("a reading needs a value or a reason")
        return self


class Quantity(Record):
    """A repeated measurement: median, extremes, count and quartiles. The unit is in the field that holds it."""

    p50: float
    low: float
    high: float
    n: int
    q25: float | None = None  # quartiles, from four on
    q75: float | None = None

    @property
    def unsteadiness(self) -> float:
        """Distance of the quartiles / median, which more repetitions do not widen; the spread where there are few."""
        if self.q25 is None or self.q75 is None:
            return self.spread
        return (self.q75 - self.q25) / self.p50 if self.p50 else 0.0

    @property
    def spread(self) -> float:
        """(high - low) / median, the share by which the repetitions differ."""
        return (self.high - self.low) / self.p50 if self.p50 else 0.0


class Estimate(Record):
    """A figure estimated from a sample. Without a value, `reason` says why; a gap without a reason is a fault."""

    value: float | None = None
    se: float | None = None  # standard error
    low: float | None = None  # ends of its own confidence interval, where it has one that no standard error tells
    high: float | None = None
    reason: str = ""


class Support(Record):
    """An answer to whether something can be done, with the reason."""

    ok: bool
    reason: str


def to_jsonable(record: Record) -> dict[str, Any]:
    """The record as plain JSON values."""
    found: dict[str, Any] = json.loads(record.model_dump_json())  # a dump in Python keeps figures that are no numbers
    return found
