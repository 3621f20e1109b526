"""README, ARCHITECTURE and CONTRIBUTING tell the truth: what they name exists, and every room is named."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

from flows.cli import COMMANDS
from tasks.params.renamed import RENAMED
from tests import ROOT

README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
CONTRIBUTING = (ROOT / ".github/CONTRIBUTING.md").read_text()
SECURITY = (ROOT / ".github/SECURITY.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
TARGETS = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.M))
TEXTS = {file.name: file.read_text() for file in (*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"))}
SPOKEN = r"(?:`|^|[(;,] ?|&& )"  # what stands before a command that is written out


ROOM = re.compile(r"^\| `([\w/]+/)` \|.*\|(.*)\|$", re.M)  # a row of the table of rooms: the folder, where to begin
# Paths that are written out, but for folders that a run makes.
PATH = re.compile(
    r"`(?!artifacts/|mlruns/)((?:tasks|flows|tests|monitoring|\.github|\.ci)/[\w./-]*|[\w./-]+/|[\w./-]+\.py)`"
)


def test_readme_and_its_companions_are_short():
    lines = {name: len(text.splitlines()) for name, text in TEXTS.items()}
    assert lines["README.md"] < 150
    assert lines["ARCHITECTURE.md"] < 180
    assert lines["CONTRIBUTING.md"] < 80


def commands(tool, text):
    """Words after `tool` where a command is written out: in backquotes, or as a line of a block."""
    return set(re.findall(rf"{SPOKEN}{tool} (?:-\w+ )*([a-z][a-z-]*)", text, re.M))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_make_targets_named_exist_and_settings_are_read(text):
    assert commands("make", text) <= TARGETS
    settings = re.findall(rf"{SPOKEN}make [a-z-]+((?: [A-Z_]+=\S+)+)", text, re.M)
    named = {setting for found in settings for setting in re.findall(r"([A-Z_]+)=", found)}
    assert named <= set(re.findall(r"\$\(([A-Z_]+)\)", MAKEFILE)) | {"MODEL", "TARGET", "PROFILE"}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_subcommands_and_their_options_exist(text):
    assert commands("edgewright", text) <= set(COMMANDS)
    for name, options in re.findall(rf"{SPOKEN}edgewright ([a-z]+)((?: [^`\n#]+)?)", text, re.M):
        path = ROOT / COMMANDS[name].module.replace(".", "/")
        source = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        assert all(f'"{option}"' in source for option in re.findall(r"--[a-z-]+", options)), (name, options)


def test_make_targets_that_messages_name_exist():
    named = {
        target: file
        for folder in ("tasks", "flows", "monitoring")
        for file in (ROOT / folder).rglob("*.py")
        for target in re.findall(r"`make ([a-z][a-z-]*)", file.read_text())
    }
    assert len(named) > 5
    assert {target: file for target, file in named.items() if target not in TARGETS} == {}


def test_every_make_target_a_user_needs_is_in_readme():
    assert TARGETS - {"help", "env", "lock"} <= commands("make", README)


def test_the_rules_see_a_command_that_is_not_there():
    text = "`make bench-nothing` and (`edgewright optimise --model X`)\nmake bench-aa\nmake -s scorecard"
    assert commands("make", text) == {"bench-nothing", "bench-aa", "scorecard"}
    assert commands("edgewright", text) == {"optimise"}
    assert "bench-aa" in TARGETS and "bench-nothing" not in TARGETS


@pytest.mark.parametrize("path", sorted(set(PATH.findall(README + ARCHITECTURE + CONTRIBUTING))))
def test_paths_named_exist(path):
    assert (ROOT / path).exists()


def test_the_rule_sees_a_path_that_is_not_there():
    assert PATH.findall("`nowhere/` `tasks/nothing.py` `nothing.py` `python -m tasks.gate`") == [
        "nowhere/", "tasks/nothing.py", "nothing.py",
    ]  # fmt: skip


def test_every_room_is_in_the_table():
    packages = {
        f"{folder.parent.relative_to(ROOT)}/"
        for pattern in ("*/__init__.py", "tasks/*/__init__.py", "monitoring/*/__init__.py", "flows/*/__init__.py")
        for folder in ROOT.glob(pattern)
    }
    assert {room for room, _ in ROOM.findall(ARCHITECTURE)} == packages | {"tests/bench/", "tests/drill/"}


@pytest.mark.parametrize(("room", "files"), ROOM.findall(ARCHITECTURE))
def test_files_of_a_room_are_there(room, files):
    begin = re.findall(r"`(\w+)`", files)
    assert begin
    assert [name for name in begin if not any((ROOT / room).glob(f"{name}{ending}") for ending in ("", ".*"))] == []


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (tasks[\w.]+)", README + ARCHITECTURE))))
def test_modules_named_exist(module):
    assert (ROOT / (module.replace(".", "/") + ".py")).is_file()


def test_parameters_named_exist():
    for name in ("data.source", "gate", "recommend.weights", "variants", "fetch.allow_pickle", "track.model_name"):
        assert f"`{name}" in README
        value = PARAMS
        for part in name.split("."):
            value = value[part]


def test_settings_that_security_names_are_off_by_themselves():
    for block, name in (("fetch", "allow_pickle"), ("serve", "log_text")):
        assert f"`{block}.{name}: true`" in SECURITY
        assert PARAMS[block][name] is False
    assert PARAMS["serve"]["host"] == "127.0.0.1" and "127.0.0.1" in SECURITY


def released(changelog):
    """Versions with their days, the newest first."""
    return re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", changelog, re.M)


def test_the_newest_release_is_the_version_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert released(CHANGELOG)[0][0] == project["version"]
    assert re.findall(r"^## \[(.+?)\]", CHANGELOG, re.M)[0] == "Unreleased"
    assert released("## [Unreleased]\n## [0.2.0] - 2026-12-01\n## 0.1.0\n") == [("0.2.0", "2026-12-01")]


def test_the_changelog_has_every_renamed_parameter():
    told = dict(re.findall(r"^  \| `([\w.]+)` \| `([\w.]+)` \|$", CHANGELOG, re.M))
    assert told == dict(RENAMED)


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
