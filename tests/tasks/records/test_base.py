"""Records as files: what was written is what is read, also where a figure is no number."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tasks.records.base import Quantity
from tasks.records.scores import Metric


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, 1e-310])
def test_a_figure_that_is_no_number_is_kept_and_read(tmp_path: Path, value: float) -> None:
    for record in (Quantity(p50=value, low=value, high=1.0, n=3), Metric(value=value, n=3)):
        file = tmp_path / "record.json"
        record.write(file)
        json.loads(file.read_text(), parse_constant=pytest.fail)  # JSON has no word for it
        found = type(record).read(file)
        assert repr(found) == repr(record)
