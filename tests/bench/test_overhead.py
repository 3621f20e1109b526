"""The parts of `make bench`: where the time of a run goes."""

from __future__ import annotations

from pathlib import Path

from tasks.records.base import write_text
from tasks.run.workspace import Workspace
from tests.bench.overhead import where_time_goes


def test_the_measuring_part_of_a_run_is_the_sum_of_what_scores_and_times(tmp_path: Path) -> None:
    assert where_time_goes(tmp_path) == {"measurement_s": None}
    write_text(tmp_path / Workspace().times, '{"convert": 100.0, "evaluate": 30.0, "benchmark": 40.0, "gate": 0.2}')
    found = where_time_goes(tmp_path)
    assert found == {"measurement_s": 70.0, "run_convert_s": 100.0, "run_evaluate_s": 30.0, "run_benchmark_s": 40.0}
