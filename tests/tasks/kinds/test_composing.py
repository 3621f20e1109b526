"""A run's settings by kind of model: each has its own data, gates and variants, and the user's word is the last."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tasks.errors import ConfigError
from tasks.kinds import demands
from tasks.kinds.composing import compose, composed_before
from tasks.kinds.table import KINDS, catalogue, defaults_file
from tasks.params.whole import load_whole
from tests import ROOT

MODELS = {"text-encoder": "minilm", "image-classifier": "digits", "onnx-file": "some.onnx"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return tmp_path


def change(folder: Path, **blocks: object) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(raw | blocks))


def test_every_kind_beside_the_first_brings_its_own() -> None:
    assert set(MODELS) == set(KINDS) - {"causal-lm"}
    assert all(defaults_file(name) is not None for name in MODELS)
    assert defaults_file("tests.tasks.toy_kind") is None


@pytest.mark.parametrize(("kind", "model"), MODELS.items())
@pytest.mark.parametrize("profile", ["full", "quick"])
def test_gates_weights_and_variants_of_a_kind_are_known_to_its_catalogue(
    folder: Path, kind: str, model: str, profile: str
) -> None:
    made = compose({"fetch.model": model, "profile": profile}, folder)
    demands.check(catalogue(kind), made.params)
    assert made.params.reference == "onnx-fp32"
    assert any(variant.quick for variant in made.params.variants.values())
    assert f"what {kind} brings" in made.told.files
    assert made.params.tune == compose({"profile": profile}, folder).params.tune


def test_what_params_says_of_a_kind_goes_over_what_it_brings(folder: Path) -> None:
    change(folder, kinds={"text-encoder": {"gate": {"cosine": {"min": 0.99}}, "data": {"evaluation_rows": 50}}})
    made = compose({"fetch.model": "minilm"}, folder).params
    assert made.gate["cosine"].min == 0.99
    assert made.gate["retention"].min == 0.95
    assert (made.data.evaluation_rows, made.data.calibration_rows) == (50, 64)
    assert compose({}, folder).params.data.evaluation_rows == 40
    assert compose({"fetch.model": "minilm", "data.evaluation_rows": 7}, folder).params.data.evaluation_rows == 7
    assert load_whole(folder).kinds


def test_what_is_no_affair_of_a_kind_is_refused(folder: Path) -> None:
    change(folder, kinds={"text-encoder": {"serve": {"port": 1}}})
    with pytest.raises(ConfigError, match=r"kinds\.text-encoder\.serve"):
        compose({"fetch.model": "minilm"}, folder)


def test_a_run_is_composed_again_with_its_kind(folder: Path) -> None:
    compose({"fetch.model": "digits"}, folder).write(folder)
    again = composed_before(folder)
    assert again is not None
    assert again.params.recommend.weights["throughput"] == 0.4
