"""The parts of `make bench-rulers` on a tiny model: both sides of a comparison are there and speak of the same work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.backends.base import Work
from tasks.backends.table import backend
from tests.bench import rulers
from tests.factories import recipe

ROWS = [list(range(100 + i, 140 + i)) for i in range(4)]


def request(artifact: Path) -> rulers.RulerRequest:
    short = [row[:10] for row in ROWS]
    asked = {"artifact": artifact, "threads": 2, "warm_up": short[-1], "short": short, "long": ROWS, "rows": ROWS}
    return rulers.RulerRequest.model_validate(asked)


def test_transformers_own_loss_gives_the_same_perplexity(tiny_model: Path) -> None:
    found = rulers.transformers(request(tiny_model)).samples
    assert found["perplexity"][0] == pytest.approx(found["perplexity_ruler"][0], rel=1e-3)


def test_llama_cpp_times_the_same_calls(tiny_model: Path, tmp_path: Path) -> None:
    wanted = recipe(backend="gguf", precision="fp16", method="default", group_size=0)
    backend("gguf").convert(Work(model=tiny_model, calibration=(), threads=2), wanted, tmp_path)
    found = rulers.llama_cpp(request(tmp_path)).samples
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(found, len(ROWS))
    # its own clock runs inside ours
    assert all(0 < own <= ours * 1.05 for ours, own in zip(found["prefill"], found["prefill_ruler"], strict=True))


def test_every_ruler_has_a_limit() -> None:
    assert {name.rsplit("_", 1)[0] for name in rulers.LIMITS if "openvino" not in name} == {
        "llama_cpp", "mlx_lm", "transformers",
    }  # fmt: skip
    assert all(limit.most == rulers.ALLOWED for limit in rulers.LIMITS.values())
