"""The same rollout for a Kubernetes cluster: Argo Rollouts leads the traffic through a Gateway API route.

The steps are those of params.yaml; what is asked between them are the server's own Prometheus series. Field names are
those of argoproj.io/v1alpha1 (Rollout, AnalysisTemplate) and gateway.networking.k8s.io/v1 (HTTPRoute).
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from tasks.errors import ConfigError
from tasks.params.serving import more_errors
from tasks.params.whole import Whole
from tasks.targets.cluster.manifests import LEAVE_S, POD, image_volume, locked_container, locked_pod, probes

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?")
GATEWAY_PLUGIN = "argoproj-labs/gatewayAPI"


def manifests(
    params: Whole,
    image: str,
    gateway: str,
    prometheus: str,
    namespace: str = "default",
    package: str = "",
    cpu: str = "2",
    memory: str = "2Gi",
) -> list[dict[str, Any]]:
    """Everything one model needs; raises ConfigError for names that Kubernetes does not take.

    `image` holds this project; `package` is the image or artifact with the package, by its digest, which is mounted at
    /package; left out, `image` holds it there. `gateway` is the Gateway the route hangs on; `prometheus` the address of
    a server that scrapes the pods. `cpu` and `memory` are what a pod gets, no less and no more.
    """
    name = params.registered_name
    for what, one in (("track.model_name", name), ("the gateway", gateway), ("the namespace", namespace)):
        if not NAME.fullmatch(one):
            raise ConfigError(f"{what} {one!r} is no Kubernetes name: lower case letters, digits and '-', at most 52")
    if not image or re.search(r"\s", image):
        raise ConfigError(f"{image!r} is no image; give one such as registry.example/edgewright:1")
    if re.search(r"\s", package):
        raise ConfigError(f"{package!r} is no image; give one such as registry.example/model@sha256:...")
    services = [_service(name, part, params) for part in ("stable", "canary")]
    made: list[dict[str, Any]] = [
        *services,
        _route(name, gateway, params),
        _analysis(name, prometheus, params),
        _rollout(name, _pod(name, image, package, {"cpu": cpu, "memory": memory}, params), namespace, params),
    ]
    for document in made:
        document["metadata"]["namespace"] = namespace
    return made


def rendered(documents: list[dict[str, Any]]) -> str:
    """The documents as one YAML stream."""
    return yaml.safe_dump_all(documents, sort_keys=False)


def _service(name: str, part: str, params: Whole) -> dict[str, Any]:
    port = {"name": "http", "port": params.serve.port, "targetPort": "http"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-{part}", "labels": {"app": name}},
        "spec": {"selector": {"app": name}, "ports": [port]},
    }


def _route(name: str, gateway: str, params: Whole) -> dict[str, Any]:
    backends = [
        {"name": f"{name}-{part}", "port": params.serve.port, "weight": weight}
        for part, weight in (("stable", 100), ("canary", 0))
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {"parentRefs": [{"name": gateway}], "rules": [{"backendRefs": backends}]},
    }


def _analysis(name: str, prometheus: str, params: Whole) -> dict[str, Any]:
    """Errors against what a share allows; first tokens, gaps between tokens against the old version's."""
    canary, stable = ('{service="' + f"{name}-{part}" + '"' for part in ("canary", "stable"))
    window = "[2m]"

    def p95(series: str, pods: str) -> str:
        return f"histogram_quantile(0.95, sum by (le) (rate(edgewright_{series}_seconds_bucket{pods}}}{window})))"

    failed = (
        f'sum(rate(edgewright_requests_total{canary},outcome!~"ok|gone-away"}}{window})) / '
        f"sum(rate(edgewright_requests_total{canary}}}{window}))"
    )
    asked = {
        "requests": (
            f"sum(increase(edgewright_requests_total{canary}}}{window}))",
            f"len(result) > 0 && result[0] >= {params.promotion.min_requests}",
            None,
        ),
        "errors": (failed, "len(result) > 0 && result[0] <= {{args.most-errors}}", "result[0] > {{args.most-errors}}"),
        **{
            title: (
                f"{p95(series, canary)} / {p95(series, stable)}",
                f"len(result) > 0 && result[0] <= {params.promotion.max_latency_ratio}",
                f"result[0] > {2 * params.promotion.max_latency_ratio}",
            )
            for title, series in (("first-token", "time_to_first_token"), ("between-tokens", "inter_token"))
        },
    }
    metrics = [
        {
            "name": title,
            "interval": "30s",
            "count": params.promotion.max_looks,
            # Too few requests, or none that can be compared, are no failure and no success either: the step holds.
            "successCondition": good,
            **(
                {"failureCondition": bad, "failureLimit": 0}
                if bad
                else {"inconclusiveLimit": params.promotion.max_looks}
            ),
            "provider": {"prometheus": {"address": prometheus, "query": query}},
        }
        for title, (query, good, bad) in asked.items()
    ]
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": {"name": name},
        "spec": {"args": [{"name": "most-errors"}], "metrics": metrics},
    }


def _pod(name: str, image: str, package: str, resources: dict[str, str], params: Whole) -> dict[str, Any]:
    """The pod, which may do no more than a server of a model needs."""
    port = params.serve.port
    mounts: list[dict[str, Any]] = [{"name": "log", "mountPath": "/log"}]
    volumes: list[dict[str, Any]] = [{"name": "log", "emptyDir": {}}]
    if package:
        mounts.append({"name": "package", "mountPath": "/package", "readOnly": True})
        volumes.append({"name": "package", **image_volume(package)})
    container = {
        "name": "server",
        "image": image,
        "command": ["python", "-m", "tasks.serve"],
        "args": ["--package", "/package", "--name", name, "--host", POD, "--port", str(port), "--log", "/log"],
        "ports": [{"name": "http", "containerPort": port}],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        **probes(params.serve, params.promotion.max_start_s),
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_S}}},
        "volumeMounts": mounts,
        "securityContext": locked_container(),
    }
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": round(params.serve.drain_s) + LEAVE_S + 5,
        "securityContext": locked_pod(),
        "containers": [container],
        "volumes": volumes,
    }


def _rollout(name: str, pod: dict[str, Any], namespace: str, params: Whole) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    for share in params.promotion.shares:
        allowed = [{"name": "most-errors", "value": f"{more_errors(share):.3f}"}]
        steps.append({"setWeight": round(share)})
        steps.append({"analysis": {"templates": [{"templateName": name}], "args": allowed}})
    canary = {
        "stableService": f"{name}-stable",
        "canaryService": f"{name}-canary",
        # The old version stays for so long after the new one is champion, to go back to in one step.
        "scaleDownDelaySeconds": 600,
        "trafficRouting": {"plugins": {GATEWAY_PLUGIN: {"httpRoute": name, "namespace": namespace}}},
        "steps": steps,
    }
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
            "strategy": {"canary": canary},
        },
    }
