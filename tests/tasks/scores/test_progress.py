"""Progressive optimization: which steps are told, and what tuning takes from the step before."""

from __future__ import annotations

import pytest

from tasks.kinds.table import catalogue
from tasks.records.scores import ScoreRow
from tasks.records.speed import Tuned
from tasks.scores.progress import progress
from tests import factories as make

REFERENCE, RIVAL, GGUF = "torch-fp32", "gguf-f16", "gguf-q8_0"


def rows() -> tuple[ScoreRow, ...]:
    return (
        make.row(REFERENCE, metrics=make.good_metrics(decode_speedup=1.0, memory_share=1.0)),
        make.row(RIVAL, metrics=make.good_metrics(decode_speedup=3.0, memory_share=0.6)),
        make.row(GGUF, metrics=make.good_metrics(decode_speedup=6.0, memory_share=0.3)),
    )


def tuned(**changes) -> dict[str, Tuned]:
    gain = {"decode_tokens_per_s": make.paired(1.2), "prefill_tokens_per_s": make.paired(1.0)}
    fields = {"backend": "gguf", "variant": GGUF, "reason": "flash_attn on", "command": "", "gain": gain}
    return {"gguf": Tuned.model_validate(fields | {"settings": {"flash_attn": "on"}} | changes)}


def test_each_step_says_what_it_gained() -> None:
    [found] = progress(catalogue(), rows(), REFERENCE, [GGUF], tuned())
    assert [stride.step for stride in found.strides] == ["reference", "converted", "quantized", "accelerated"]
    assert [stride.figures["decode_speedup"] for stride in found.strides] == pytest.approx([1.0, 3.0, 5.0, 6.0])
    assert [stride.figures["memory_share"] for stride in found.strides] == [1.0, 0.6, 0.3, 0.3]
    assert found.strides[-1].note == "flash_attn on"


def test_without_tuning_the_last_step_says_so() -> None:
    [found] = progress(catalogue(), rows(), REFERENCE, [GGUF], tuned(settings={}, reason="defaults: no gain"))
    assert [stride.figures["decode_speedup"] for stride in found.strides] == [1.0, 3.0, 6.0, 6.0]
    assert found.strides[-1].note == "defaults: no gain"
    [found] = progress(catalogue(), rows(), REFERENCE, [GGUF], {})
    assert found.strides[-1].note == "defaults: not tuned"


def test_an_engine_without_its_unquantized_model_skips_that_step() -> None:
    [found] = progress(catalogue(), [rows()[0], rows()[2]], REFERENCE, [], {})
    assert [stride.step for stride in found.strides] == ["reference", "quantized", "accelerated"]


def test_no_candidate_no_steps() -> None:
    failed = make.row(GGUF, status="failed", reason="crashed", metrics={})
    assert progress(catalogue(), [rows()[0], failed], REFERENCE, [], {}) == ()
    assert progress(catalogue(), [rows()[2]], REFERENCE, [GGUF], {}) == ()  # the reference itself is not there
