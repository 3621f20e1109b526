"""The rollout for a cluster: the shape its controllers take, and names that exist on both sides."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
import yaml

from tasks.errors import ConfigError
from tasks.params.load import changed
from tasks.params.whole import load_whole
from tasks.promotion.command import main
from tasks.serve.command import parser
from tasks.serve.log.prometheus import Metrics
from tasks.targets.kubernetes import GATEWAY_PLUGIN, manifests, rendered


def made(**changes: Any) -> dict[str, dict[str, Any]]:
    params = changed(load_whole(), "promotion", changes) if changes else load_whole()
    text = rendered(manifests(params, "registry.example/edgewright:1", "gateway", "http://prometheus:9090"))
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(text)}


def record(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """A JSON schema of an object with these fields and no others."""
    properties = {**required, **optional}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT, COUNT, ANY = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}, {"type": "object"}
# The fields that are used, as the custom resource definitions of Argo Rollouts 1.8 and the Gateway API 1.2 have them.
ANALYSIS = record({"templates": {"type": "array", "items": record({"templateName": TEXT})}}, args={"type": "array"})
STEP = {
    "oneOf": [record({"setWeight": {"type": "integer", "minimum": 0, "maximum": 100}}), record({"analysis": ANALYSIS})]
}
CANARY = record(
    {
        "stableService": TEXT, "canaryService": TEXT, "scaleDownDelaySeconds": COUNT,
        "trafficRouting": record({"plugins": ANY}), "steps": {"type": "array", "items": STEP, "minItems": 2},
    }
)  # fmt: skip
ROLLOUT = record(
    {
        "replicas": COUNT, "revisionHistoryLimit": COUNT, "selector": record({"matchLabels": ANY}), "template": ANY,
        "strategy": record({"canary": CANARY}),
    }
)  # fmt: skip
METRIC = record(
    {
        "name": TEXT, "interval": TEXT, "count": COUNT, "successCondition": TEXT,
        "provider": record({"prometheus": record({"address": TEXT, "query": TEXT})}),
    },
    failureCondition=TEXT, failureLimit=COUNT, inconclusiveLimit=COUNT,
)  # fmt: skip
TEMPLATE = record({"args": {"type": "array"}, "metrics": {"type": "array", "items": METRIC}})
BACKEND = record({"name": TEXT, "port": COUNT, "weight": COUNT})
ROUTE = record(
    {
        "parentRefs": {"type": "array", "items": record({"name": TEXT})},
        "rules": {"type": "array", "items": record({"backendRefs": {"type": "array", "items": BACKEND}})},
    }
)
KINDS = {
    "Rollout": ("argoproj.io/v1alpha1", ROLLOUT),
    "AnalysisTemplate": ("argoproj.io/v1alpha1", TEMPLATE),
    "HTTPRoute": ("gateway.networking.k8s.io/v1", ROUTE),
}


def test_the_resources_are_of_the_shape_their_controllers_take() -> None:
    found = made()
    assert len(found) == 5
    for kind, (version, schema) in KINDS.items():
        one = next(one for one in found.values() if one["kind"] == kind)
        assert one["apiVersion"] == version
        jsonschema.validate(one["spec"], schema)


def test_the_steps_are_those_of_the_router() -> None:
    name = load_whole().registered_name
    rollout = made(shares=[10.0, 100.0])[f"Rollout/{name}"]
    steps = rollout["spec"]["strategy"]["canary"]["steps"]
    assert [step["setWeight"] for step in steps[::2]] == [10, 100]
    allowed = [float(step["analysis"]["args"][0]["value"]) for step in steps[1::2]]
    assert allowed == sorted(allowed, reverse=True)


def test_names_exist_on_both_sides() -> None:
    name, found = load_whole().registered_name, made()
    rollout, route = found[f"Rollout/{name}"]["spec"], found[f"HTTPRoute/{name}"]["spec"]
    canary = rollout["strategy"]["canary"]
    services = {canary["stableService"], canary["canaryService"]}
    assert services == {backend["name"] for backend in route["rules"][0]["backendRefs"]}
    assert {f"Service/{one}" for one in services} <= set(found)
    assert canary["trafficRouting"]["plugins"][GATEWAY_PLUGIN]["httpRoute"] == name
    container = rollout["template"]["spec"]["containers"][0]
    parser().parse_args(container["args"])  # exits when the server does not take them
    known = {family.name for family in Metrics().registry.collect()}
    for metric in found[f"AnalysisTemplate/{name}"]["spec"]["metrics"]:
        asked = set(re.findall(r"edgewright_[a-z_]+", metric["provider"]["prometheus"]["query"]))
        assert asked and {re.sub(r"_(total|bucket)$", "", one) for one in asked} <= known


@pytest.mark.parametrize(("image", "gateway"), [("", "gateway"), ("two words", "gateway"), ("image", "No Name")])
def test_names_that_a_cluster_does_not_take_are_refused(image: str, gateway: str) -> None:
    with pytest.raises(ConfigError):
        manifests(load_whole(), image, gateway, "http://prometheus:9090")


def test_the_command_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kubernetes", "--image", "registry.example/edgewright:1"]) == 0
    assert len(list(yaml.safe_load_all(capsys.readouterr().out))) == 5
