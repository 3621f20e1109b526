"""params.yaml: typed, strict, and with errors that name the key and what is allowed."""

from __future__ import annotations

import pytest
import yaml

from tasks.errors import ConfigError
from tasks.params import pipeline
from tasks.params.load import known_variant
from tasks.params.whole import load_whole, parse_whole
from tests import ROOT

VARIANTS = {"ref": {"backend": "torch", "precision": "fp32", "role": "reference"}}


def test_the_projects_own_params_are_valid():
    params = parse_whole(yaml.safe_load((ROOT / "params.yaml").read_text()))
    assert params.reference == "torch-fp32"
    assert {variant.backend for variant in params.variants.values()} == {"torch", "openvino", "onnx", "gguf", "mlx"}


def test_the_quick_profile_changes_what_it_names_and_nothing_else():
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    full, quick = (parse_whole({**raw, "profile": name}) for name in ("full", "quick"))
    assert quick.data.evaluation_rows < full.data.evaluation_rows
    assert quick.data.calibration_rows == full.data.calibration_rows
    assert quick.convert == full.convert
    undecided = dict.fromkeys(("task_retention", "latency_drift", "memory_growth"))
    assert quick.gate == {**full.gate, **undecided, "decode_speedup": pipeline.Bound(min=1.5)}
    assert quick.recommend == full.recommend


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"benchmrk": {}}, "unknown parameter 'benchmrk'; did you mean 'benchmark'?"),
        ({"benchmark": {"round": 3}}, "unknown parameter 'benchmark.round'; did you mean 'rounds'?"),
        ({"benchmark": {"rounds": "3"}}, "'benchmark.rounds' = '3'"),
        ({"benchmark": {"rounds": 0}}, "greater than or equal to 1"),
        ({"gate": {"retention": 0.95}}, "gate.retention"),
        ({"gate": {"retention": {}}}, "give one of min and max"),
        ({"gate": {"retention": {"min": 0.9, "max": 1.0}}}, "give one of min and max"),
        ({"gate": {"retention": {"mni": 0.9}}}, "did you mean 'min'"),
        ({"gate": {"min_retention": 0.9}}, "gate.min_retention is now gate.retention: {min: 0.9}"),
        ({"gate": {"max_mean_kl": None}}, "gate.max_mean_kl is now gate.mean_kl: null"),
        (
            {"profiles": {"quick": {"gate": {"min_ttft_speedup": 1.0}}}},
            "profiles.quick.gate.min_ttft_speedup is now profiles.quick.gate.ttft_speedup: {min: 1.0}",
        ),
        ({"recommend": {"weights": {"memory": -0.1}}}, "greater than or equal to 0"),
        ({"profile": "fast"}, "'full' or 'quick'"),
        ({"variants": {}}, "exactly one variant must have role: reference"),
        ({"variants": {**VARIANTS, "a b": {"backend": "gguf", "precision": "int8"}}}, "letters, digits"),
        ({"variants": {**VARIANTS, "x": {"backend": "gguf", "precision": "int8", "bit": 4}}}, "did you mean 'bits'?"),
        (
            {"variants": {**VARIANTS, "x": {"backend": "gguf", "precision": "int8", "bits": 4}}},
            "methods of mixed types",
        ),
        ({"variants": {**VARIANTS, "x": {"backend": "gguf", "precision": "int4", "method": "mixed"}}}, "needs one"),
        (
            {"variants": {**VARIANTS, "x": {"backend": "gguf", "precision": "int8", "source": "variants/y"}}},
            "must be 'model' or 'variants/NAME'",
        ),
        ({"profile": "quick", "profiles": {"quick": {"dta": {"seed": 1}}}}, "did you mean 'data'?"),
        ({"profile": "quick", "profiles": {"quick": {"recommend": {}}}}, "allowed: benchmark, data, evaluate, gate"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(change, words):
    with pytest.raises(ConfigError) as caught:
        parse_whole({"variants": VARIANTS, **change})
    assert words in str(caught.value)


def test_a_block_left_empty_means_its_defaults():
    assert parse_whole({"variants": VARIANTS, "gate": None}).gate == {}


@pytest.mark.parametrize(("text", "words"), [("a: [", "not valid YAML"), ("- 1", "must hold a mapping")])
def test_a_broken_file_is_said_so(tmp_path, text, words):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_whole(tmp_path)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(ConfigError, match="run from the project's root"):
        load_whole(tmp_path)


def test_an_unknown_variant_gets_the_nearest_name():
    params = parse_whole(yaml.safe_load((ROOT / "params.yaml").read_text()))
    with pytest.raises(ConfigError, match="did you mean 'openvino-int8'"):
        known_variant(params, "openvino-int")


def test_an_unknown_parameter_stops_a_stage_with_code_2(tmp_path, monkeypatch, capsys):
    from tasks import data

    (tmp_path / "params.yaml").write_text("datta: {}\nvariants: {}\n")
    monkeypatch.chdir(tmp_path)
    assert data.main([]) == 2
    assert "did you mean 'data'?" in capsys.readouterr().err
