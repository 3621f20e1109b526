"""Targets of params.yaml: one in short or many by name, each with gates and weights over the common ones."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tasks.errors import ConfigError
from tasks.params.load import parse, parse_as
from tasks.params.pipeline import Bound, Params, Target
from tasks.params.settings import compose
from tests import factories as make

TWO = {
    "here": {"device": "host", "gate": {"decode_speedup": {"min": 4.0}, "memory_share": None}},
    "pi": {"device": "raspberry-pi", "kind": "host-server", "weights": {"memory": 1.0}},
}


@pytest.mark.parametrize("blocks", [{}, {"target": None}, {"target": {}}, {"target": {"device": "host"}}])
def test_the_short_form_is_one_target_named_after_its_device(blocks: dict[str, Any]) -> None:
    params = make.params(**blocks, gate={"retention": {"min": 0.9}})
    assert params.named_targets == {"host": Target(device="host")} and params.first_target == "host"
    assert params.for_target() == params, "nothing differs from the common gates and weights"
    assert make.params(target={"device": "iphone"}).first_target == "iphone"


def test_each_target_has_its_own_gates_and_weights_over_the_common_ones() -> None:
    gate = {"retention": {"min": 0.9}, "decode_speedup": {"min": 2.0}}
    params = make.params(targets=TWO, gate=gate, recommend={"weights": {"decode": 0.5}})
    here, pi = (params.for_target(name) for name in ("here", "pi"))
    assert params.first_target == "here" and params.for_target() == here
    assert here.gate == {"retention": Bound(min=0.9), "decode_speedup": Bound(min=4.0), "memory_share": None}
    assert pi.gate == params.gate and pi.recommend.weights == {"decode": 0.5, "memory": 1.0}
    assert here.recommend == params.recommend


@pytest.mark.parametrize("blocks", [{}, {"target": {"device": "iphone"}}, {"targets": TWO}])
def test_what_is_written_reads_back_as_the_same(blocks: dict[str, Any]) -> None:
    params = parse({"variants": make.VARIANTS, **blocks})
    again = yaml.safe_load(yaml.safe_dump(params.model_dump(mode="json", exclude={"profiles"})))
    assert parse(again) == params


BOTH = {"target": {"device": "iphone"}, "targets": TWO}


def one(**fields: Any) -> dict[str, Any]:
    return {"targets": {"a": fields}}


@pytest.mark.parametrize(("blocks", "words"), [
    (BOTH, "params name targets too (here, pi); keep one form: remove `target`"),
    (BOTH, "`name: {device: iphone}` says the same"),
    ({"target": {"devise": "host"}}, "unknown parameter 'target.devise'; did you mean 'device'?"),
    (one(devise="host"), "did you mean 'device'? allowed: budget_mb, device, gate, kind, options, weights"),
    (one(gate={"retention": {"mni": 1.0}}), "unknown parameter 'targets.a.gate.retention.mni'; did you mean 'min'?"),
    (one(gate={"min_retention": 0.9}), "targets.a.gate.min_retention is now targets.a.gate.retention: {min: 0.9}"),
    (one(weights={"memory": -1.0}), "greater than or equal to 0"),
    ({"targets": {"a/b": {}}}, "target name 'a/b': use letters, digits"),
    ({"targets": {"pi": {"device": "raspberry-pi"}, "me": {}}}, "'me' is this machine, on which all is timed"),
    ({"targets": ["host"]}, "targets"),
])  # fmt: skip
def test_what_is_wrong_is_refused_in_words(blocks: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_as(Params, {"variants": make.VARIANTS, **blocks}, "params.yaml")
    assert words in str(caught.value)


def test_a_device_of_the_command_beside_targets_is_refused(tmp_path: Any) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"targets": TWO, "variants": make.VARIANTS}))
    assert compose({}, tmp_path).params.first_target == "here"
    assert compose({"targets.pi.device": "iphone"}, tmp_path).params.targets["pi"].device == "iphone"
    with pytest.raises(ConfigError, match="remove `target` .and TARGET= from the command"):
        compose({"target.device": "iphone"}, tmp_path)
