"""How close a variant comes to the machine's limits: the arithmetic behind it, and the stage that measures them."""

from __future__ import annotations

import doctest
import json
from typing import Any

import pytest

from tasks import ceiling as stage
from tasks.kinds.table import catalogue
from tasks.measure import guard
from tasks.measure import roofline as measured
from tasks.records.base import Quantity
from tasks.records.scores import RooflinePosition
from tasks.records.speed import Ceiling
from tasks.reporting import ceilings
from tasks.run.workspace import Workspace
from tasks.scores import bottleneck
from tasks.scores.bottleneck import bounded, bytes_per_token, closeness, operations_per_token
from tests import factories as make

INT4 = {"u4": 0.6, "u8": 0.37, "f32": 0.03}
WEIGHTS, TABLE = 134_500_000, 49152 * 576


def near(decode: float = 75.0, prefill: float = 1700.0, **changes):
    spread = changes.pop("spread", 0.1)
    quantity = make.quantity(decode).model_copy(
        update={"low": decode * (1 - spread / 2), "high": decode * (1 + spread / 2)}
    )
    benchmark = make.benchmark(
        decode_tokens_per_s=quantity,
        prefill_tokens_per_s=make.quantity(prefill).model_copy(update={"low": prefill, "high": prefill}),
    )
    return closeness(make.artifact(), benchmark, make.profile(), make.ceiling(**changes))


def test_doctests() -> None:
    assert doctest.testmod(bottleneck).failed == 0


def test_a_token_reads_every_weight_of_a_tied_model_and_not_the_embedding_of_another() -> None:
    assert bytes_per_token(make.profile(), {"f32": 1.0}, "fp32") == WEIGHTS * 4
    assert bytes_per_token(make.profile(), {"f32": 1.0}, "bf16") == WEIGHTS * 2  # what the runtime keeps of it
    assert bytes_per_token(make.profile(tied_embeddings=False), {"f32": 1.0}, "fp32") == (WEIGHTS - TABLE) * 4
    assert bytes_per_token(make.profile(), INT4, "int8") == pytest.approx(
        WEIGHTS * (0.6 * 4 + 0.37 * 8 + 0.03 * 32) / 8
    )


def test_a_prompt_token_multiplies_the_body_alone() -> None:
    assert operations_per_token(make.profile()) == 2 * (WEIGHTS - TABLE)
    assert operations_per_token(make.profile(tied_embeddings=False)) == 2 * (WEIGHTS - 2 * TABLE)


def test_shares_of_the_ceilings() -> None:
    found = near()
    assert found.decode_gb_s == pytest.approx(WEIGHTS * (0.9 * 8 + 0.1 * 32) / 8 * 75 / 1e9, rel=1e-3)
    assert found.decode_share == pytest.approx(found.decode_gb_s / 34, rel=1e-3)
    assert found.prefill_share == pytest.approx(2 * (WEIGHTS - TABLE) * 1700 / 1e9 / 800, rel=1e-3)
    assert (found.arithmetic, found.decode_bound, found.prefill_bound) == ("int8", "overhead-bound", "overhead-bound")


@pytest.mark.parametrize(
    ("changes", "decode", "prefill"),
    [
        ({"decode": 190.0}, "memory-bound", "overhead-bound"),
        ({"prefill": 3100.0}, "overhead-bound", "compute-bound"),
        ({"spread": 0.3}, "inconsistent", "overhead-bound"),
        ({"decode": 330.0}, "inconsistent", "overhead-bound"),  # more than the machine gives: the ceiling is in doubt
        ({"decode": 190.0, "spread": 0.3}, "inconsistent", "overhead-bound"),
        ({"gflop_s": {}}, "overhead-bound", "unknown"),
    ],
)
def test_what_holds_a_phase_back(changes: dict, decode: str, prefill: str) -> None:
    found = near(**changes)
    assert (found.decode_bound, found.prefill_bound) == (decode, prefill)
    assert ceilings.ADVICE[found.decode_bound] and ceilings.ADVICE[found.prefill_bound]


def test_a_variant_without_speeds_has_no_place() -> None:
    elsewhere = make.benchmark(decode_tokens_per_s=None, prefill_tokens_per_s=None)
    assert closeness(make.artifact(), elsewhere, make.profile(), make.ceiling()) is None
    assert closeness(make.artifact(check=None), make.benchmark(), make.profile(), make.ceiling()) is None


def test_the_closest_to_the_limit_comes_first_and_what_is_unknown_is_said() -> None:
    lines = ceilings.lines((near(), near(decode=150.0).model_copy(update={"variant": "faster"}), near(gflop_s={})))
    assert lines[0].variant == "faster"
    assert lines[-1].prefill.share == "unknown"
    text = ceilings.sentence(make.ceiling(reasons={"int8": "no kernel"}, busy="a neighbour"))
    assert "34.0 GB/s" in text and "int8 was not measured: no kernel." in text and "busy: a neighbour" in text


@pytest.mark.slow
def test_the_stage_measures_this_machine(tmp_path, monkeypatch, capsys) -> None:
    """The stage itself: a whole record with positive figures, and a reason for what could not be measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(guard, "DEVICE_LOCK", tmp_path / "lock")  # how fast it is, is no matter of this test
    (tmp_path / "params.yaml").write_text(
        make.params(benchmark={"max_others_cores": 64.0}).model_dump_json(include={"variants", "benchmark"})
    )
    make.hardware().write(Workspace().hardware)
    monkeypatch.setenv("PYTHONPATH", str(make.__file__).rsplit("/", 2)[0])
    assert stage.main([]) == 0
    found = Ceiling.read(Workspace().ceiling)
    assert "GB/s" in capsys.readouterr().out
    assert found.memory_gb_s.n == measured.REPEATS and found.memory_gb_s.p50 > 1
    assert set(found.gflop_s) | set(found.reasons) == {"fp32", "bf16", "int8"}
    assert found.gflop_s["fp32"].p50 > 1
    assert json.loads(Workspace().ceiling.read_text())["command"] == found.command


def test_a_type_without_a_fast_kernel_is_bounded_by_what_it_can_be_widened_to() -> None:
    speeds = {"fp32": Quantity(p50=100.0, low=99.0, high=101.0, n=5), "int8": Quantity(p50=3.0, low=2.9, high=3.1, n=5)}
    slow, none = near(gflop_s=speeds), near(gflop_s={"fp32": speeds["fp32"]})
    assert slow.arithmetic == "int8" and slow.prefill_share == pytest.approx(slow.prefill_gflop_s / 100, abs=1e-3)
    assert none.prefill_share is None


def test_a_kernel_that_is_missing_leaves_the_other_and_none_leaves_the_reason() -> None:
    import torch

    from tasks.measure.roofline import _fp32, _int8_layer, _throughput

    def missing(torch: Any, side: int) -> Any:
        raise RuntimeError("no such kernel")

    with pytest.raises(RuntimeError, match="no quantized tensors"):
        _int8_layer(object(), 4)
    assert min(_throughput(torch, (missing, _fp32))) > 0
    assert _throughput(torch, (missing,)) == "no such kernel"


def test_a_speedup_is_bounded_by_the_share_of_the_ceiling_it_reaches() -> None:
    row = make.row(metrics=make.good_metrics(decode_speedup=4.0, prefill_speedup=3.0))
    near = RooflinePosition(
        variant=row.variant, decode_gb_s=20.0, decode_share=0.5, decode_bound="overhead-bound", prefill_gflop_s=100.0,
        prefill_share=1.2, prefill_bound="compute-bound", arithmetic="int8",
    )  # fmt: skip
    [bounded_row] = bounded(catalogue(), [row], [near])
    assert bounded_row.metrics["decode_speedup"].bound == 8.0
    assert bounded_row.metrics["prefill_speedup"].bound is None  # above the ceiling: caches helped
    assert bounded(catalogue(), [row], []) == (row,)
