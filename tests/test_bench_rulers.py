"""The parts of `make bench-rulers` on a tiny model: both sides of a comparison are there and speak of the same work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows import bench_rulers
from tasks.backends.base import Work, backend
from tests.factories import recipe

ROWS = [list(range(100 + i, 140 + i)) for i in range(4)]


def request(artifact: Path) -> dict[str, Any]:
    short = [row[:10] for row in ROWS]
    return {"artifact": str(artifact), "threads": 2, "warm_up": short[-1], "short": short, "long": ROWS, "rows": ROWS}


def test_transformers_own_loss_gives_the_same_perplexity(tiny_model: Path) -> None:
    found = bench_rulers.transformers(request(tiny_model))
    assert found["perplexity"][0] == pytest.approx(found["perplexity_ruler"][0], rel=1e-3)


def test_llama_cpp_times_the_same_calls(tiny_model: Path, tmp_path: Path) -> None:
    wanted = recipe(backend="gguf", precision="fp16", method="default", group_size=0)
    backend("gguf").convert(Work(model=tiny_model, calibration=(), threads=2), wanted, tmp_path)
    found = bench_rulers.llama_cpp(request(tmp_path))
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(found, len(ROWS))
    # its own clock runs inside ours
    assert all(0 < own <= ours * 1.05 for ours, own in zip(found["prefill"], found["prefill_ruler"], strict=True))


def test_every_ruler_has_a_limit() -> None:
    assert {name.rsplit("_", 1)[0] for name in bench_rulers.LIMITS if "openvino" not in name} == {
        "llama_cpp", "mlx_lm", "transformers",
    }  # fmt: skip
    assert all(limit.most == bench_rulers.ALLOWED for limit in bench_rulers.LIMITS.values())
