"""README and ARCHITECTURE tell the truth: what they name exists."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
TARGETS = set(re.findall(r"^([a-z]+):.*##", MAKEFILE, re.M))


def test_readme_is_short():
    assert len(README.splitlines()) < 150


@pytest.mark.parametrize("text", [README, ARCHITECTURE], ids=["README", "ARCHITECTURE"])
def test_make_targets_named_exist_and_settings_are_read(text):
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.M)) <= TARGETS
    assert set(re.findall(r"make run ([A-Z_]+)=", text)) <= set(re.findall(r"\$\(([A-Z_]+)\)", MAKEFILE))


def test_every_make_target_a_user_needs_is_in_readme():
    assert TARGETS - {"help", "env", "lock"} <= set(re.findall(r"(?:`|^)make ([a-z]+)", README, re.M))


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:tasks|flows|tests|monitoring|\.github)/[\w./-]*)`", README + ARCHITECTURE)))
)
def test_paths_named_exist(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([\w.]+)", README + ARCHITECTURE))))
def test_modules_named_exist(module):
    assert (ROOT / (module.replace(".", "/") + ".py")).is_file()


def test_parameters_named_exist():
    for name in ("data.source", "gate", "recommend.weights", "variants", "fetch.allow_pickle"):
        assert f"`{name}" in README
        value = PARAMS
        for part in name.split("."):
            value = value[part]


def test_the_target_in_readme_is_a_device_profile():
    devices = yaml.safe_load((ROOT / "tasks/hardware/devices.yaml").read_text())
    for name in re.findall(r"TARGET=([\w-]+)", README):
        assert name in str(devices)


def test_stages_in_architecture_are_the_pipelines():
    for stage in STAGES:
        assert re.search(rf"\b{stage}\b", ARCHITECTURE), stage


def test_variants_in_the_scorecard_of_readme_exist():
    shown = set(re.findall(r"\b(?:torch|openvino|onnx|gguf|mlx)-\w+", README))
    assert shown
    assert shown <= set(PARAMS["variants"])
