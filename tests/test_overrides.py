"""flows/overrides.py: settings written into params.yaml, nothing else touched, bad ones refused."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows import overrides
from flows.overrides import apply, collect, edit, split
from tasks.errors import ConfigError

PARAMS = Path(__file__).parent.parent / "params.yaml"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    copy = tmp_path / "params.yaml"
    copy.write_text(PARAMS.read_text())
    return copy


def changed_lines(path: Path) -> list[tuple[str, str]]:
    before, after = PARAMS.read_text().splitlines(), path.read_text().splitlines()
    assert len(before) == len(after)
    return [(old, new) for old, new in zip(before, after, strict=True) if old != new]


def test_examples() -> None:
    assert doctest.testmod(overrides).failed == 0


def test_the_common_settings_have_their_keys_and_later_ones_win() -> None:
    got = collect(
        model="m.gguf", target="iphone", profile="quick", settings=["fetch.model=other", "gate.min_retention=null"]
    )
    assert got == {"fetch.model": "other", "target.device": "iphone", "profile": "quick", "gate.min_retention": None}
    assert collect() == {}


def test_only_the_values_change_and_every_change_is_told(path: Path) -> None:
    device = next(iter(yaml.safe_load((PARAMS.parent / "tasks/hardware/devices.yaml").read_text())))
    said = apply(collect("/models/mine", device, "quick", ["benchmark.rounds=77"]), path)
    rounds = yaml.safe_load(PARAMS.read_text())["benchmark"]["rounds"]
    assert said == [
        "params.yaml: fetch.model = /models/mine (was sample)",
        f"params.yaml: target.device = {device} (was host)",
        "params.yaml: profile = quick (was full)",
        f"params.yaml: benchmark.rounds = 77 (was {rounds})",
        "undo: git checkout params.yaml",
        "a winner will be registered as 'edgewright-sample' (another name: -S track.model_name=NAME)",
    ]
    changed = changed_lines(path)
    assert len(changed) == 4
    for old, new in changed:
        assert old.partition("#")[2] == new.partition("#")[2], "a comment was lost"


def test_the_column_of_a_comment_is_kept_where_there_is_room(path: Path) -> None:
    apply({"profile": "quick"}, path)
    ((old, new),) = changed_lines(path)
    assert old.index("#") == new.index("#")


def test_the_same_value_again_writes_nothing(path: Path) -> None:
    apply({"profile": "quick"}, path)
    stamp = path.stat().st_mtime_ns
    assert apply({"profile": "quick"}, path) == []
    assert path.stat().st_mtime_ns == stamp


def test_a_variants_key_that_is_not_there_is_added(path: Path) -> None:
    assert apply({"variants.gguf-f16.quick": True}, path)[0] == "params.yaml: variants.gguf-f16.quick = true"
    ((_, new),) = changed_lines(path)
    assert new.endswith("quick: true}")


def test_a_new_variant_and_a_list(path: Path) -> None:
    apply(
        collect(settings=["variants.mine={backend: gguf, precision: int8}", "assess.frameworks=[openvino, mlx]"]), path
    )
    got = yaml.safe_load(path.read_text())
    assert got["variants"]["mine"] == {"backend": "gguf", "precision": "int8"}
    assert got["assess"]["frameworks"] == ["openvino", "mlx"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["gate.min_retantion=0.9"], "did you mean 'min_retention'"),
        (["gates.x=1"], "unknown parameter 'gates'"),
        (["benchmark.rounds=many"], "'benchmark.rounds' = 'many'"),
        (["benchmark.rounds=0"], "greater than or equal to 1"),
        (["profile=slow"], "'full' or 'quick'"),
        (["target.device=toaster"], "toaster"),
        (["assess.requirements=1"], "set its keys one by one, e.g. -S assess.requirements."),
        (["data.seed.x=1"], "'data.seed' is a value, not a block"),
        (["seed"], "must be KEY=VALUE"),
        (["=3"], "must be KEY=VALUE"),
        (["a..b=3"], "must be KEY=VALUE"),
        (["data.seed=[1"], "is not a YAML value"),
        (["variants.torch-fp32.role=rival"], "exactly one variant must have role: reference"),
        (["benchmark.rounds=3", "gate.x=1"], "unknown parameter 'gate.x'"),
    ],
)
def test_a_bad_setting_is_refused_and_the_file_left_alone(path: Path, settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply(collect(settings=settings), path)
    assert message in str(caught.value) and caught.value.exit_code == 2
    assert path.read_text() == PARAMS.read_text()


def test_a_file_that_is_absent_or_broken_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist; run from the project's root"):
        apply({"profile": "quick"}, tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        apply({"profile": "quick"}, tmp_path / "params.yaml")


DOCUMENT = """# head
a: 1  # one
block:
  text: some words   # said
  none:
  list: [1, 2]
flow: {x: 1, y: {z: deep}}
"""
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20))
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3))
KEYS = [
    "a",
    "block.text",
    "block.none",
    "block.list",
    "block.new",
    "flow.x",
    "flow.y.z",
    "flow.new",
    "flow.y.new",
    "new",
]


@given(key=st.sampled_from(KEYS), value=VALUES)
def test_any_value_is_read_back_and_nothing_else_moves(key: str, value: Any) -> None:
    expected = yaml.safe_load(DOCUMENT)
    place = expected
    *blocks, name = key.split(".")
    for block in blocks:
        place = place[block]
    place[name] = value
    _, text = edit(DOCUMENT, key, value)
    assert yaml.safe_load(text) == expected
    assert text.count("# one") == 1 and text.count("# said") == 1 and "# head" in text


@given(st.text(max_size=30))
def test_split_reads_or_refuses_and_never_crashes(text: str) -> None:
    try:
        key, _ = split(text)
    except ConfigError:
        return
    assert key and "=" in text
