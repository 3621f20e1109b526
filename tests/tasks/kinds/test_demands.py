"""What params.yaml asks of metrics: defaults, what is switched off, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.errors import ConfigError
from tasks.kinds import demands
from tasks.kinds.table import catalogue
from tasks.params.load import parse, read
from tests import ROOT
from tests import factories as make

KNOWN = catalogue()


def test_what_is_not_named_keeps_its_default_and_null_switches_it_off() -> None:
    gate = make.params(gate={"retention": {"min": 0.9}, "memory_share": None, "top_agreement": {"min": 0.8}}).gate
    limits = {limit.spec.name: (limit.minimum, limit.maximum) for limit in demands.limits(KNOWN, gate)}
    assert limits["retention"] == (0.9, None) and limits["top_agreement"] == (0.8, None)
    assert limits["perplexity_ratio"] == (None, 1.1) and "memory_share" not in limits and "energy_share" not in limits
    assert [spec.name for spec in demands.switched_off(KNOWN, gate)] == ["memory_share"]
    assert demands.switched_off(KNOWN, {"energy_share": None}) == ()  # it is off by default


def test_the_file_says_the_defaults_themselves() -> None:
    params = parse(read(ROOT / "params.yaml"))
    demands.check(KNOWN, params)
    assert demands.limits(KNOWN, params.gate) == demands.limits(KNOWN, {})
    assert demands.weights(KNOWN, params.recommend.weights) == demands.default_weights(KNOWN)
    assert set(params.gate) == {spec.name for spec in KNOWN if spec.gate is not None}


def test_least_speedups_are_told_by_phase() -> None:
    gate = make.params(gate={"decode_speedup": {"min": 1.5}, "prefill_speedup": None, "ttft_speedup": {"min": 3}}).gate
    asked = demands.speedups_asked(KNOWN, gate)
    assert asked == {"decode_tokens_per_s": 1.5, "decode_long_tokens_per_s": 1.0, "time_to_first_token_ms": 3.0}


def test_defaults_are_spelt_out() -> None:
    told = demands.spelt_out(KNOWN, make.params(gate={"retention": None, "mean_kl": {"max": 0.1}}))
    assert told["gate"]["retention"] is None and told["gate"]["mean_kl"] == {"max": 0.1}
    assert told["gate"]["decode_speedup"] == {"min": 2.0}
    assert told["recommend"]["weights"] == {"quality": 0.1, "decode": 0.3, "prefill": 0.3, "memory": 0.3}


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ({"gate": {"retantion": {"min": 0.9}}}, "unknown parameter 'gate.retantion'; did you mean 'retention'?"),
        ({"gate": {"nothing": None}}, "unknown parameter 'gate.nothing'"),
        ({"gate": {"retention": {"max": 0.9}}}, "higher is better, so its gate is {min: ...}"),
        ({"gate": {"mean_kl": {"min": 0.9}}}, "lower is better, so its gate is {max: ...}"),
        ({"gate": {"retention": {"min": 1.5}}}, "gate.retention.min = 1.5: it must be from 0 to 1"),
        ({"gate": {"decode_speedup": {"min": 0.0}}}, "it must be above 0"),
        ({"gate": {"decode_speedup": {"min": float("nan")}}}, "it must be above 0"),
        ({"gate": {"stress_failures": {"max": 0.5}}}, "it must be a whole number from 0 on"),
        ({"gate": {"top_agreement": {"min": 2.0}}}, "it must be from 0 to 1"),
        ({"recommend": {"weights": {"decod": 1.0}}}, "'recommend.weights.decod'; did you mean 'decode'?"),
        ({"recommend": {"weights": dict.fromkeys(demands.default_weights(KNOWN), 0.0)}}, "at least one weight"),
    ],
)
def test_what_the_kind_does_not_have_is_refused(blocks: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        demands.check(KNOWN, make.params(**blocks))
    assert words in str(caught.value)
