"""OpenVINO's engine where continuous batching has no kernels: answers in turns, equal to those of the batches."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tasks.backends import openvino
from tasks.backends.openvino import device
from tasks.backends.sampling import Sampling
from tests import serving

PROMPTS = {1: (5, 6, 7, 8), 2: (9, 10, 11), 3: (5, 9)}
TOKENS = 6


@pytest.fixture(scope="module")
def artifact(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serving.package(tmp_path_factory.mktemp("openvino") / "package", tiny_model, "openvino") / "model"


def answers(artifact: Path) -> dict[int, list[int]]:
    """Tokens of three requests that are under way together."""
    engine = openvino.engine(artifact, 2, 3, 64)
    try:
        for key, ids in PROMPTS.items():
            engine.add(key, ids, TOKENS, Sampling())
        found: dict[int, list[int]] = {key: [] for key in PROMPTS}
        while any(len(one) < TOKENS for one in found.values()):
            for made in engine.step():
                found[made.key].append(made.token)
        return found
    finally:
        engine.close()


@pytest.mark.parametrize(("machine", "isa", "turns"), [
    ("aarch64", ("asimd", "asimddp"), True), ("arm64", ("asimd", "sve"), False), ("x86_64", ("avx2",), False),
])  # fmt: skip
def test_only_arm_without_sve_takes_turns(machine: str, isa: tuple[str, ...], turns: bool, monkeypatch) -> None:
    monkeypatch.setattr(device.platform, "machine", lambda: machine)
    monkeypatch.setattr(device, "_isa", lambda: isa)
    assert ("continuous batching needs SVE" in device.takes_turns()) is turns


@pytest.mark.model
def test_answers_in_turns_equal_those_of_batches_and_it_is_recorded(artifact: Path, monkeypatch) -> None:
    together = answers(artifact)
    scorer = openvino.scorer(artifact, 2)
    assert "serving" not in scorer.runtime()
    monkeypatch.setattr(device.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(device, "_isa", lambda: ("asimd", "asimdhp", "asimddp"))
    assert "requests take turns" in scorer.runtime()["serving"]
    scorer.close()

    def refused(*_: object) -> None:
        raise AssertionError("continuous batching was loaded")

    module = importlib.import_module("tasks.backends.openvino.engine")  # its package has a function of that name
    monkeypatch.setattr(module, "ContinuousEngine", refused)
    assert answers(artifact) == together
    engine = openvino.engine(artifact, 2, 3, 64)
    engine.add(1, (5, 6), 4, Sampling())
    engine.drop(1)
    assert engine.step() == []
    engine.close()
