"""Old names of parameters are refused with the new one."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.errors import ConfigError
from tasks.params.load import parse
from tasks.params.renamed import REMOVED, RENAMED
from tasks.params.whole import Whole, parse_whole

VARIANTS = {"variants": {"ref": {"backend": "torch", "precision": "fp32", "role": "reference"}}}


def nested(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value


def known(dotted: str) -> bool:
    model: Any = Whole
    for part in dotted.split("."):
        if part not in getattr(model, "model_fields", {}):
            return False
        model = model.model_fields[part].annotation
    return True


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_is_refused_with_its_new_name(old: str, new: str) -> None:
    assert known(new) and not known(old)
    with pytest.raises(ConfigError) as refused:
        parse_whole({**VARIANTS, **nested(old, 1)}, "params.yaml")
    assert str(refused.value) == f"params.yaml: {old} is now called {new}"


@pytest.mark.parametrize(("old", "why"), REMOVED.items())
def test_a_key_that_is_no_more_is_refused_with_the_reason(old: str, why: str) -> None:
    assert not known(old)
    with pytest.raises(ConfigError) as refused:
        parse_whole({**VARIANTS, **nested(old, True)}, "params.yaml")
    assert str(refused.value) == f"params.yaml: {old} is no more: {why}; take it out"


def test_every_old_key_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_whole({**VARIANTS, "promotion": {"real": 0.5, "fewest": 3}})
    assert "min_caller_share" in str(refused.value) and "min_requests" in str(refused.value)


def test_an_old_key_of_a_profile_is_named_too() -> None:
    with pytest.raises(ConfigError, match=r"data\.more is now called data\.extra_share"):
        parse({**VARIANTS, "profile": "quick", "profiles": {"quick": {"data": {"more": 0.0}}}})
