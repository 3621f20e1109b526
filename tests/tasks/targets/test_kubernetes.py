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
from tasks.targets.cluster.checks import pod_fault
from tasks.targets.cluster.kubernetes import GATEWAY_PLUGIN, manifests, rendered


def made(more: dict[str, str] | None = None, **changes: Any) -> dict[str, dict[str, Any]]:
    params = changed(load_whole(), "promotion", changes) if changes else load_whole()
    image, prometheus = "registry.example/edgewright:1", "http://prometheus:9090"
    text = rendered(manifests(params, image, "gateway", prometheus, **(more or {})))
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


def test_a_pod_may_do_no_more_than_it_needs() -> None:
    spec = made({"cpu": "500m", "memory": "1Gi"})[f"Rollout/{load_whole().registered_name}"]["spec"]["template"]["spec"]
    assert pod_fault(spec) == ""
    [container] = spec["containers"]
    assert container["resources"]["limits"] == {"cpu": "500m", "memory": "1Gi"}
    for name in ("readOnlyRootFilesystem", "runAsNonRoot", "capabilities", "seccompProfile"):
        kept = container["securityContext"].pop(name)
        assert name in pod_fault(spec)
        container["securityContext"][name] = kept


def test_the_package_comes_by_its_digest_where_it_is_named() -> None:
    name, package = load_whole().registered_name, "registry.example/model@sha256:" + "a" * 64
    spec = made({"package": package})[f"Rollout/{name}"]["spec"]["template"]["spec"]
    [volume] = [one for one in spec["volumes"] if one["name"] == "package"]
    assert volume["image"]["reference"] == package
    assert {"name": "package", "mountPath": "/package", "readOnly": True} in spec["containers"][0]["volumeMounts"]
    inside = made()[f"Rollout/{name}"]["spec"]["template"]["spec"]
    assert [one["name"] for one in inside["volumes"]] == ["log"]  # then the image has it


def test_everything_is_in_the_namespace_that_was_named() -> None:
    found = made({"namespace": "edge"})
    assert {one["metadata"]["namespace"] for one in found.values()} == {"edge"}
    rollout = found[f"Rollout/{load_whole().registered_name}"]["spec"]["strategy"]["canary"]
    assert rollout["trafficRouting"]["plugins"][GATEWAY_PLUGIN]["namespace"] == "edge"
    with pytest.raises(ConfigError, match="the namespace"):
        made({"namespace": "No Name"})


@pytest.mark.parametrize(("image", "gateway"), [("", "gateway"), ("two words", "gateway"), ("image", "No Name")])
def test_names_that_a_cluster_does_not_take_are_refused(image: str, gateway: str) -> None:
    with pytest.raises(ConfigError):
        manifests(load_whole(), image, gateway, "http://prometheus:9090")


def test_the_command_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kubernetes", "--image", "registry.example/edgewright:1", "--namespace", "edge"]) == 0
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    assert len(found) == 5 and {one["metadata"]["namespace"] for one in found} == {"edge"}
