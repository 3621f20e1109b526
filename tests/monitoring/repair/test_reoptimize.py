"""The way back to optimization: what callers asked, as data."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from monitoring.collect.place import Place
from monitoring.collect.windows import Window
from monitoring.repair.actuator import ImpossibleError
from monitoring.repair.reoptimize import PipelineReoptimizer, window_file
from monitoring.repair.state import State
from tasks.params.whole import load_whole

T0 = 1_790_000_000.0


def test_a_window_with_texts_becomes_data_for_the_pipeline_and_one_without_says_so(tmp_path: Path) -> None:
    from tasks.promotion.store import Store
    from tests import logs

    place = Place(Store(tmp_path / "serve"), tmp_path / "monitor")
    made = logs.traffic(100, T0, 10.0)
    logs.write(tmp_path / "serve" / "blue", made)
    with pytest.raises(ImpossibleError, match="serve.log_text"):
        window_file(place, 50)
    for number, row in enumerate(made):
        row |= {"prompt": f"prompt {number // 2}", "answer": "an answer"}
    logs.write(tmp_path / "serve" / "green", made)
    assert len(window_file(place, 50).read_text().splitlines()) == 50  # each prompt once
    calm, other = (
        Window(number=n, began=T0, ended=T0 + 8.0, version="3", rows=9, drift=d) for n, d in ((1, "none"), (2, "drift"))
    )
    State(windows=(calm, other)).write(place.folder / "state.json")
    late = {json.loads(line)["question"] for line in window_file(place, 5).read_text().splitlines()}
    assert late == {row["prompt"] for row in made if datetime.fromisoformat(row["when"]).timestamp() >= T0 + 8.0}
    loop = PipelineReoptimizer(place, load_whole())
    assert loop.busy() == ""
    assert "asked for in" in loop.retrain("other prompts")
