"""Several targets: what each takes, one plan for all, and the plan as one of them has it."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.assess import fits
from tasks.errors import ConfigError
from tasks.params.pipeline import Params
from tasks.planning.fit import seen
from tasks.planning.plan import backends_of, plan
from tasks.planning.selection import ranked_backends, select
from tasks.records.plan import PlanEntry
from tests import factories as make

BOX = "tests.tasks.toy_target"  # takes gguf alone


def planned(**targets: Any) -> dict[str, PlanEntry]:
    chosen = make.params(targets=targets) if targets else make.params()
    hardware, model = make.hardware(), make.profile()
    selection = select(hardware, model, chosen.assess, ranked_backends(backends_of(chosen)))
    return {one.variant: one for one in plan(chosen, hardware, model, selection, found(chosen))}


def found(chosen: Params) -> Any:
    return fits(chosen, make.hardware(), make.profile())


def test_the_short_form_needs_no_fit_and_one_target_plans_the_same() -> None:
    assert found(make.params()) == ()
    assert planned(me={"device": "host"}) == planned()


def test_a_further_target_changes_nothing_of_what_is_planned() -> None:
    assert (
        planned(me={"device": "host"}, pi={"device": "raspberry-pi"}, box={"device": "host", "kind": BOX}) == planned()
    )


def test_what_no_target_takes_is_not_made() -> None:
    entries = planned(box={"device": "host", "kind": BOX})
    assert {name for name, one in entries.items() if one.action == "run"} == {*make.VARIANTS} - {"openvino-int8"}
    assert entries["openvino-int8"].reason == "target box: the firmware reads gguf, not openvino"


def test_what_only_another_device_takes_is_made_and_not_timed() -> None:
    entries = planned(box={"device": "host", "kind": BOX}, pi={"device": "raspberry-pi"})
    one = entries["openvino-int8"]
    assert one.action == "run" and "for raspberry-pi" in one.reason and not one.speed_on_device.ok
    assert one.speed_on_device.reason.startswith("not measured on this device: target box: the firmware reads gguf")
    assert planned(box={"device": "host", "kind": BOX}, me={"device": "host"})["openvino-int8"].speed_on_device.ok


def test_the_plan_as_one_target_has_it() -> None:
    chosen = make.params(targets={"me": {"device": "host"}, "pi": {"device": "raspberry-pi", "kind": BOX}})
    me, pi = found(chosen)
    entry = make.plan_entry("openvino-int8")
    assert seen(entry, me).action == "run" and seen(entry, me).speed_on_device.ok
    assert (seen(entry, pi).action, seen(entry, pi).reason) == ("skip", pi.takes["openvino-int8"].reason)
    gguf = seen(make.plan_entry("gguf-q8_0"), pi)
    assert gguf.action == "run" and "this machine is not raspberry-pi" in gguf.speed_on_device.reason
    assert seen(make.plan_entry("torch-fp32"), pi).action == "run", "what one compares with is not restricted"


def test_an_unknown_device_is_refused_by_its_key() -> None:
    chosen = make.params(targets={"me": {}, "pi": {"device": "rasberry-pi"}})
    with pytest.raises(
        ConfigError, match=r"targets\.pi\.device 'rasberry-pi' is not known; did you mean 'raspberry-pi'"
    ):
        found(chosen)
