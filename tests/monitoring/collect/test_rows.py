"""The prediction log as a table: whole, torn, backwards, unknown, rotated, sampled."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.collect import rows, windows
from monitoring.collect.windows import Counted, Machine
from tasks.serve.log import log_files
from tasks.serve.log.sketch import client, rarity, sketch
from tests import logs

T0 = 1_790_000_000.0


def test_a_window_holds_what_ended_in_it_and_callers_alone(tmp_path: Path) -> None:
    made = logs.traffic(200, T0, 100.0)
    for number, row in enumerate(made[:20]):
        row["request_id"] = f"{'mirror' if number % 2 else 'probe'}-{number}"
    logs.write(tmp_path, made)
    found = rows.read([tmp_path], T0 + 50, T0 + 100)
    assert 80 < len(found.table) < 120
    assert found.table["ended"].between(T0 + 50, T0 + 100).all()
    assert len(rows.read([tmp_path], T0, T0 + 101).table) == 180
    assert found.problems == {}


def test_lines_that_cannot_be_used_are_counted_by_what_is_wrong_and_cost_nothing_else(tmp_path: Path) -> None:
    good = logs.traffic(50, T0, 10.0)
    logs.write(tmp_path, good)
    file = tmp_path / "predictions.jsonl"
    backwards = {**good[0], "when": "2020-01-01T00:00:00+00:00", "request_id": "old"}
    strange = {**good[1], "confidence": "high", "request_id": "strange"}
    with file.open("a") as stream:
        stream.write(json.dumps(backwards) + "\n" + json.dumps(strange) + "\n")
        stream.write('{"request_id": "x", "when": "yesterday", "whole_ms": 1}\n[]\n\n\x00\x00\n')
        stream.write('{"request_id": "n", "when": "2026-01-01T00:00:00+00:00", "whole_ms": NaN}\n')
        stream.write(json.dumps(good[0])[:70])  # torn
    found = rows.read([tmp_path], T0, T0 + 20)
    assert len(found.table) == 51
    assert found.problems == {
        "the clock went backwards": 1, "confidence is no number": 1,
        "without id, time or length": 2, "torn or no JSON": 3,
    }  # fmt: skip


def test_a_window_tells_of_its_own_lines_alone(tmp_path: Path) -> None:
    logs.write(tmp_path, logs.traffic(20, T0, 10.0))
    with (tmp_path / "predictions.jsonl").open("a") as stream:
        stream.write("torn\n")
    logs.write(tmp_path, [{**row, "rarity": "rare"} for row in logs.traffic(20, T0 + 10, 10.0, 1)])
    logs.write(tmp_path, logs.traffic(20, T0 + 20, 10.0, 2))
    assert rows.read([tmp_path], T0, T0 + 20).problems == {"torn or no JSON": 1, "rarity is no number": 20}
    assert rows.read([tmp_path], T0 + 20, T0 + 30).problems == {}
    waiting = rows.read([tmp_path], T0, T0 + 30, told_since=T0 + 20)
    assert (len(waiting.table), waiting.problems) == (60, {})


def test_versions_nobody_knows_are_named_and_left_out(tmp_path: Path) -> None:
    logs.write(tmp_path, logs.traffic(30, T0, 10.0))
    logs.write(tmp_path, logs.traffic(5, T0 + 10, 5.0, 1, version="99"))
    found = rows.read([tmp_path], T0, T0 + 20, ["3"])
    assert (len(found.table), found.problems) == (30, {"unknown version 99": 5})


def test_files_that_were_put_aside_are_read_and_old_ones_are_not_opened(tmp_path: Path) -> None:
    old = logs.write(tmp_path, logs.traffic(10, T0 - 9000, 10.0), "predictions.jsonl.2")
    os.utime(old, (T0 - 8000, T0 - 8000))
    logs.write(tmp_path, logs.traffic(20, T0, 10.0, 1), "predictions.jsonl.1")
    logs.write(tmp_path, logs.traffic(30, T0 + 10, 10.0, 2))
    assert [file.name for file in log_files.files(tmp_path, T0)] == ["predictions.jsonl.1", "predictions.jsonl"]
    assert len(rows.read([tmp_path, tmp_path / "nowhere"], T0, T0 + 30).table) == 50


def test_of_too_many_rows_the_newest_are_kept_and_that_is_said(tmp_path: Path) -> None:
    logs.write(tmp_path, logs.traffic(100, T0, 10.0))
    found = rows.read([tmp_path], T0, T0 + 20, most=30)
    assert (len(found.table), found.problems) == (30, {"more rows than are looked at": 70})
    assert found.table["ended"].min() > T0 + 5


def test_judgements_are_joined_by_request(tmp_path: Path) -> None:
    logs.write(tmp_path, logs.traffic(10, T0, 10.0))
    table = rows.read([tmp_path], T0, T0 + 20, judged={"req-0-3": 1.0, "req-0-4": 0.0, "other": 1.0}).table
    assert sorted(table["judged"].dropna()) == [0.0, 1.0]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=300), st.integers(3, 50))
def test_strata_keep_every_group_and_nearly_its_share(names: list[str], most: int) -> None:
    table = pd.DataFrame({"version": names, "endpoint": "e", "outcome": "ok", "place": range(len(names))})
    drawn = rows.stratified(table, most)
    assert len(drawn) == min(len(names), most)
    assert drawn["place"].is_unique
    if len(names) > most:
        assert set(drawn["version"]) == set(names)
        for name in set(names):
            exact = names.count(name) * most / len(names)
            assert abs((drawn["version"] == name).sum() - exact) <= 2


@given(st.binary(max_size=400))
def test_no_bytes_break_the_reader(noise: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "predictions.jsonl").write_bytes(noise)
        assert len(rows.read([Path(folder)], T0, T0 + 1).table) == 0


# -- figures -----------------------------------------------------------------------------------------------------------


def figures(table: pd.DataFrame, counted: Counted | None = None, price: float = 0.0) -> dict[str, windows.Figure]:
    return windows.figures(table, 10.0, Machine(cores=2, energy_j=50.0), counted or Counted(), price)


def test_figures_carry_their_count_and_interval(tmp_path: Path) -> None:
    logs.write(tmp_path, logs.traffic(400, T0, 10.0, errors=0.1))
    made = figures(rows.read([tmp_path], T0, T0 + 11).table, Counted(unauthorized=100.0), 3.6)
    errors = made["error_rate"]
    assert errors.value == pytest.approx(0.1, abs=0.05)
    assert errors.low is not None
    assert errors.high is not None
    assert errors.low < 0.1 < errors.high
    assert made["requests_per_s"].value == 40.0
    assert made["unauthorized_rate"].value == pytest.approx(0.2)
    assert made["energy_j_per_request"].value == pytest.approx(50 / 400)
    assert made["cost_per_1000"].value == pytest.approx(1000 * 3.6 * 10 / 3600 / 400)
    assert made["clients"].value == 5
    middle = made["first_token_p50_ms"]
    assert middle.value is not None
    assert middle.low is not None
    assert middle.low < middle.value


def test_percentiles_that_a_sample_cannot_carry_are_not_given(tmp_path: Path) -> None:
    logs.write(tmp_path, logs.traffic(30, T0, 10.0))
    made = figures(rows.read([tmp_path], T0, T0 + 11).table)
    assert made["first_token_p50_ms"].value is not None
    assert (made["first_token_p99_ms"].value, made["first_token_p99_ms"].note) == (None, "n too small: 30 of 299")


def test_of_too_few_rows_the_newest_of_the_windows_before_are_taken_too(tmp_path: Path) -> None:
    logs.write(tmp_path, [*logs.traffic(40, T0, 10.0, slow=1.0), *logs.traffic(24, T0 + 12, 40.0, slow=9.0)])
    everything = rows.read([tmp_path], T0, T0 + 60).table.sort_values("ended")
    newest = everything.tail(3)
    alone = windows.figures(newest, 10.0, Machine(cores=2), Counted(), 0.0)
    made = windows.figures(newest, 10.0, Machine(cores=2), Counted(), 0.0, everything)
    assert alone["inter_token_p50_ms"].value is None
    assert made["inter_token_p50_ms"].count == 30
    assert made["inter_token_p50_ms"].value > 3 * everything["inter_token_ms"].head(40).median()
    assert made["inter_token_p95_ms"].count == 59
    assert made["inter_token_p99_ms"].note == "n too small: 64 of 299"


def test_an_empty_window_has_figures_that_say_why_they_have_none(tmp_path: Path) -> None:
    made = figures(rows.read([tmp_path], T0, T0 + 10).table)
    assert made["requests_per_s"].value == 0.0
    assert made["error_rate"] == windows.Figure(value=None, count=0, note="nobody asked")


# -- what the log tells of a prompt ------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 49_151), min_size=1, max_size=300))
def test_a_sketch_is_of_the_words_and_not_of_their_order(ids: list[int]) -> None:
    assert sketch(ids) == sketch(sorted(ids))
    assert np.isfinite(sketch(ids)).all()
    assert rarity(ids) == rarity(list(reversed(ids)))


def test_callers_are_told_apart_by_key_then_address_and_only_with_the_salt() -> None:
    assert client(b"a", "key", "1") == client(b"a", "key", "2") != client(b"a", "other", "1")
    assert client(b"a", "", "1") != client(b"a", "", "2")
    assert client(b"a", "key", "1") != client(b"b", "key", "1")
