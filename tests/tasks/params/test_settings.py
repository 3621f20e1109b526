"""tasks/params/settings.py: the user's files and the command composed, none of them written, bad ones refused."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import ConfigError
from tasks.params import settings
from tasks.params.load import EFFECTIVE, LOCAL, PARAMS, load_params, parse, read_user
from tasks.params.settings import changed, collect, compose, composed_before, split
from tasks.params.whole import load_whole
from tests import ROOT

USER = ROOT / PARAMS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / PARAMS).write_text(USER.read_text())
    return tmp_path


def test_examples() -> None:
    assert doctest.testmod(settings).failed == 0


def test_the_common_settings_have_their_keys_and_later_ones_win() -> None:
    got = collect(model="m.gguf", target="iphone", profile="quick", settings=["fetch.model=other", "data.tasks=null"])
    assert got == {"fetch.model": "other", "target.device": "iphone", "profile": "quick", "data.tasks": None}
    assert collect() == {}


def test_what_the_command_says_is_told_and_the_users_file_stays(folder: Path) -> None:
    before = (folder / PARAMS).stat().st_mtime_ns
    made = compose(collect("/models/mine", "raspberry-pi", "quick", ["benchmark.rounds=77"]), folder)
    assert made.told.lines == (
        "fetch.model = /models/mine (otherwise sample)",
        "target.device = raspberry-pi (otherwise host)",
        "profile = quick (otherwise full)",
        "benchmark.rounds = 77 (otherwise 2)",
    )
    made.write(folder)
    assert (folder / PARAMS).read_text() == USER.read_text() and (folder / PARAMS).stat().st_mtime_ns == before
    head = [line for line in (folder / EFFECTIVE).read_text().splitlines() if line.startswith("#")]
    assert "params.yaml" in head[1] and "#   fetch.model = /models/mine (otherwise sample)" in head
    assert load_params(folder).fetch.model == "/models/mine"


def test_the_effective_file_holds_what_was_composed_with_the_profile_resolved(folder: Path) -> None:
    for profile in ("full", "quick"):
        made = compose({"profile": profile}, folder)
        made.write(folder)
        read = yaml.safe_load((folder / EFFECTIVE).read_text())
        assert "profiles" not in read and read["profile"] == profile
        assert load_params(folder) == made.params.model_copy(update={"profiles": {}})
        assert made.params == parse({**yaml.safe_load(USER.read_text()), "profile": profile})


def test_a_limit_of_a_profile_that_is_not_in_use_changes_nothing(folder: Path) -> None:
    before = compose({}, folder).text
    (folder / PARAMS).write_text(USER.read_text().replace("evaluation_rows: 10,", "evaluation_rows: 11,"))
    assert compose({}, folder).text == before
    assert compose({"profile": "quick"}, folder).params.data.evaluation_rows == 11


def test_a_local_file_wins_over_the_users_and_the_command_over_both(folder: Path) -> None:
    (folder / LOCAL).write_text("benchmark: {rounds: 5, sessions: 7}\nvariants:\n  onnx-int8: {group_size: 64}\n")
    made = compose({"benchmark.rounds": 9}, folder)
    assert (made.params.benchmark.rounds, made.params.benchmark.sessions) == (9, 7)
    assert made.params.variants["onnx-int8"].group_size == 64 and made.params.variants["onnx-int8"].symmetric
    assert made.told.files == ("params.yaml", "params.local.yaml")
    assert made.told.lines == ("benchmark.rounds = 9 (otherwise 5)",)
    (folder / LOCAL).write_text("benchmark: {round: 5}\n")
    with pytest.raises(ConfigError, match=r"params.local.yaml: unknown parameter 'benchmark.round'"):
        compose({}, folder)


def test_a_profile_can_be_changed_by_the_command_too(folder: Path) -> None:
    made = compose(collect(profile="quick", settings=["profiles.quick.data.evaluation_rows=8"]), folder)
    assert made.params.data.evaluation_rows == 8 and made.params.data.choices == 12


def test_what_is_as_it_was_is_not_told(folder: Path) -> None:
    assert compose({"profile": "full"}, folder).told.lines == ()


def test_a_variants_key_a_new_variant_and_a_list(folder: Path) -> None:
    told = ["variants.gguf-f16.quick=true", "variants.mine={backend: gguf, precision: int8}",
            "assess.frameworks=[openvino, mlx]"]  # fmt: skip
    got = compose(collect(settings=told), folder)
    assert got.told.lines[0] == "variants.gguf-f16.quick = true"
    assert got.params.variants["mine"].backend == "gguf" and got.params.variants["gguf-f16"].quick
    assert got.params.assess.frameworks == ("openvino", "mlx")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (["benchmark.round=1"], "did you mean 'rounds'"),
        (["gates.x=1"], "unknown parameter 'gates'"),
        (["benchmark.rounds=many"], "'benchmark.rounds' = 'many'"),
        (["benchmark.rounds=0"], "greater than or equal to 1"),
        (["profile=slow"], "'full' or 'quick'"),
        (["assess.requirements=1"], "set its keys one by one, e.g. -S assess.requirements."),
        (["data.seed.x=1"], "'data.seed' is a value, not a block"),
        (["seed"], "must be KEY=VALUE"),
        (["=3"], "must be KEY=VALUE"),
        (["a..b=3"], "must be KEY=VALUE"),
        (["data.seed=[1"], "is not a YAML value"),
        (["variants.torch-fp32.role=rival"], "exactly one variant must have role: reference"),
        (["benchmark.rounds=3", "gate.x=1"], "'gate.x' = 1"),
        (["gate.min_retention=0.9"], "gate.min_retention is now gate.retention: {min: 0.9}"),
        (["serve.port=1"], "no stage reads 'serve'; write it into params.yaml"),
    ],
)
def test_a_bad_setting_is_refused(folder: Path, told: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(collect(settings=told), folder)
    assert message in str(caught.value) and caught.value.exit_code == 2
    assert [path.name for path in folder.iterdir()] == [PARAMS.name]


def test_a_file_that_is_absent_or_broken_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist; run from the project's root"):
        compose({}, tmp_path)
    (tmp_path / PARAMS).write_text("a: [1")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        compose({}, tmp_path)


def test_serving_follows_the_users_file_and_the_model_follows_the_last_run(folder: Path) -> None:
    compose({"fetch.model": "/models/mine"}, folder).write(folder)
    (folder / PARAMS).write_text(USER.read_text().replace("port: 8080", "port: 9090"))
    params = load_whole(folder)
    assert (params.fetch.model, params.serve.port) == ("/models/mine", 9090)
    (folder / PARAMS).write_text(USER.read_text().replace("port: 8080", "prt: 9090"))
    with pytest.raises(ConfigError, match=r"'serve\.prt'; did you mean 'port'"):
        load_whole(folder)


def test_the_files_of_now_with_what_the_last_run_was_told(folder: Path) -> None:
    assert composed_before(folder) is None
    compose({"fetch.model": "/models/mine"}, folder).write(folder)
    (folder / PARAMS).write_text(USER.read_text().replace("seed: 17", "seed: 18"))
    again = composed_before(folder)
    assert again is not None and (again.params.fetch.model, again.params.data.seed) == ("/models/mine", 18)
    assert load_params(folder).data.seed == 17


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20))
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3))
RAW = {"a": 1, "block": {"text": "some words", "none": None, "list": [1, 2]}, "flow": {"x": 1, "y": {"z": "deep"}}}


@given(key=st.sampled_from(["a", "block.text", "block.none", "block.new", "flow.y.z", "flow.y.new", "new.a.b"]),
       value=VALUES)  # fmt: skip
def test_only_the_key_changes_and_what_was_given_stays(key: str, value: Any) -> None:
    copy = yaml.safe_load(yaml.safe_dump(RAW))
    got, _ = changed(RAW, key, value)
    assert copy == RAW
    *blocks, name = key.split(".")
    expected = place = copy
    for block in blocks:
        place = place.setdefault(block, {})
    place[name] = value
    assert got == expected


@given(st.text(max_size=30))
def test_split_reads_or_refuses_and_never_crashes(text: str) -> None:
    try:
        key, _ = split(text)
    except ConfigError:
        return
    assert key and "=" in text


def test_the_projects_file_is_read_as_it_is() -> None:
    assert read_user(ROOT)["fetch"]["model"] == yaml.safe_load(USER.read_text())["fetch"]["model"]
