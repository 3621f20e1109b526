"""What a cluster is told of one model: Deployment, Service, autoscaler and the rest, as documents. Pure.

Fields are those of Kubernetes 1.35 (image volumes are on by default from there on), monitoring.coreos.com/v1,
keda.sh/v1alpha1 and serving.kserve.io/v1beta1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.params.serving import Serve
from tasks.targets.cluster.autoscaling import SCRAPE_S, Behavior, Policy, Target

USER = 10001  # not root, and no user of the node
POD = "0.0.0.0"  # noqa: S104 - inside a pod, whose policies say who may come in
UNDER_WAY, WAITING = "edgewright_under_way", "edgewright_waiting"
SERIES = re.compile(r"\bedgewright_[a-z0-9_]+")
READY = "/v2/health/ready"  # answers from a real generation of the model, made over and over
LEAVE_S = 5  # until the last proxy knows that a pod is about to end
DERIVED = "edgewright/autoscaler-target"
Document = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """One model in a cluster."""

    name: str
    namespace: str
    image: str  # of the server, with its digest where it is known
    volume: Mapping[str, Any]  # where the package comes from
    manifest_sha256: str  # of the package's manifest: the server refuses another
    serve: Serve
    max_start_s: float
    cpu: str
    memory: str
    target: Target
    behavior: Behavior
    callers: tuple[str, ...] = ()  # other namespaces whose pods may ask
    monitoring: str = "monitoring"  # the namespace of Prometheus
    prometheus: str = "http://prometheus.monitoring:9090"

    @property
    def labels(self) -> dict[str, str]:
        """Labels that select its pods."""
        return {"app.kubernetes.io/name": self.name}


def image_volume(reference: str) -> Document:
    """A volume of an OCI image or artifact, by its digest."""
    return {"image": {"reference": reference, "pullPolicy": "IfNotPresent"}}


def locked_container() -> Document:
    """What a container may do: nothing that a server of a model needs not."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def locked_pod() -> Document:
    """And its pod; `fsGroup` lets it write the log."""
    return {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"}}  # fmt: skip


def probes(serve: Serve, max_start_s: float) -> Document:
    """Startup, readiness and liveness by a real answer; a pod is started again later than its model would be.

    The server ends a model that hangs and loads it again by itself, so a pod gets the time for both.
    """
    probe = {"httpGet": {"path": READY, "port": "http"}, "timeoutSeconds": 3}
    mended_s = serve.hang_s + max_start_s
    return {
        "startupProbe": probe | {"periodSeconds": 2, "failureThreshold": max(1, math.ceil(max_start_s / 2))},
        "readinessProbe": probe | {"periodSeconds": max(1, round(serve.probe_s)), "failureThreshold": 2},
        "livenessProbe": probe | {"periodSeconds": 10, "failureThreshold": math.ceil(mended_s / 10) + 1},
    }


def arguments(wanted: Wanted) -> list[str]:
    """Arguments of `python -m tasks.serve` in the pod."""
    serve = wanted.serve
    return [
        "--package", "/package", "--name", wanted.name, "--manifest", wanted.manifest_sha256,
        "--host", POD, "--port", str(serve.port), "--slots", str(serve.slots),
        "--context", str(serve.context_tokens), "--log", "/log",
    ]  # fmt: skip


def pod(wanted: Wanted, container: str = "server") -> Document:
    """The pod's specification."""
    serve = wanted.serve
    key = {"name": f"{wanted.name}-key", "key": "api-key", "optional": True}
    spread = [
        {"maxSkew": 1, "topologyKey": key_, "whenUnsatisfiable": "ScheduleAnyway",
         "labelSelector": {"matchLabels": wanted.labels}}
        for key_ in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
    ]  # fmt: skip
    log = f"{math.ceil(serve.log_mb * (serve.log_files + 2))}Mi"
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": round(serve.drain_s) + LEAVE_S + 5,
        "securityContext": locked_pod(),
        "topologySpreadConstraints": spread,
        "containers": [
            {
                "name": container,
                "image": wanted.image,
                "command": ["python", "-m", "tasks.serve"],
                "args": arguments(wanted),
                "env": [{"name": "EDGEWRIGHT_API_KEY", "valueFrom": {"secretKeyRef": key}}],
                "ports": [{"name": "http", "containerPort": serve.port, "protocol": "TCP"}],
                "resources": {
                    "requests": {"cpu": wanted.cpu, "memory": wanted.memory},
                    "limits": {"cpu": wanted.cpu, "memory": wanted.memory},
                },
                **probes(serve, wanted.max_start_s),
                "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_S}}},
                "securityContext": locked_container(),
                "volumeMounts": [
                    {"name": "package", "mountPath": "/package", "readOnly": True},
                    {"name": "log", "mountPath": "/log"},
                ],
            }
        ],
        "volumes": [{"name": "package", **wanted.volume}, {"name": "log", "emptyDir": {"sizeLimit": log}}],
    }


def deployment(wanted: Wanted) -> Document:
    """The Deployment; how many pods is the autoscaler's affair."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": wanted.name, "labels": wanted.labels},
        "spec": {
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": wanted.labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": wanted.labels}, "spec": pod(wanted)},
        },
    }


def service(wanted: Wanted) -> Document:
    """One address for all pods."""
    port = {"name": "http", "port": wanted.serve.port, "targetPort": "http", "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": wanted.name, "labels": wanted.labels},
        "spec": {"selector": wanted.labels, "ports": [port]},
    }


def disruption_budget(wanted: Wanted) -> Document:
    """Nodes are emptied a pod at a time; pods that are not healthy hold nobody up."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": wanted.name},
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": wanted.labels},
        },
    }


def network_policy(wanted: Wanted) -> Document:
    """Its own namespace, those that were named and Prometheus may ask; the model asks nobody."""
    named = [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": one}}}
        for one in (*wanted.callers, wanted.monitoring)
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": wanted.name},
        "spec": {
            "podSelector": {"matchLabels": wanted.labels},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {}}, *named], "ports": [{"protocol": "TCP", "port": "http"}]}],
            "egress": [],
        },
    }


def service_monitor(wanted: Wanted) -> Document:
    """How the Prometheus operator finds the pods."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": wanted.name, "labels": wanted.labels},
        "spec": {
            "selector": {"matchLabels": wanted.labels},
            "endpoints": [{"port": "http", "path": "/metrics", "interval": f"{SCRAPE_S:.0f}s", "scrapeTimeout": "5s"}],
        },
    }


def scaling_behavior(own: Behavior) -> Document:
    """How fast the autoscaler goes, as both HPA and KEDA have it."""

    def direction(policies: Iterable[Policy], window_s: int) -> Document:
        made = [{"type": one.kind, "value": one.value, "periodSeconds": one.period_s} for one in policies]
        return {"stabilizationWindowSeconds": window_s, "selectPolicy": "Max", "policies": made}

    return {"scaleUp": direction(own.up, own.up_window_s), "scaleDown": direction(own.down, own.down_window_s)}


def autoscaler(wanted: Wanted, deployment: str = "") -> Document:
    """The HorizontalPodAutoscaler: requests under way and requests that wait, each at the target."""
    goal = {"type": "AverageValue", "averageValue": wanted.target.quantity}
    metrics = [{"type": "Pods", "pods": {"metric": {"name": one}, "target": goal}} for one in (UNDER_WAY, WAITING)]
    whom = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment or wanted.name}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": wanted.name, "annotations": {DERIVED: wanted.target.why}},
        "spec": {
            "scaleTargetRef": whom,
            "minReplicas": wanted.behavior.least,
            "maxReplicas": wanted.behavior.most,
            "metrics": metrics,
            "behavior": scaling_behavior(wanted.behavior),
        },
    }


def scaled_object(wanted: Wanted) -> Document:
    """The same by KEDA. A query without an answer is an error: by its default it would be an idle model."""
    pods = f'{{namespace="{wanted.namespace}",service="{wanted.name}"}}'
    trigger = {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": wanted.prometheus,
            "query": f"sum({UNDER_WAY}{pods}) + sum({WAITING}{pods})",
            "threshold": f"{wanted.target.value:g}",
            "ignoreNullValues": "false",
        },
    }
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": wanted.name, "annotations": {DERIVED: wanted.target.why}},
        "spec": {
            "scaleTargetRef": {"name": wanted.name},
            "pollingInterval": round(SCRAPE_S),
            "cooldownPeriod": wanted.behavior.down_window_s,
            "minReplicaCount": wanted.behavior.least,
            "maxReplicaCount": wanted.behavior.most,
            "fallback": {"failureThreshold": 4, "replicas": wanted.behavior.most},
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": scaling_behavior(wanted.behavior)}},
            "triggers": [trigger],
        },
    }


def adapter_rules(wanted: Wanted) -> Document:
    """Rules of prometheus-adapter under which the autoscaler finds both metrics by pod."""
    resources = {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}}
    rules = [
        {
            "seriesQuery": f'{one}{{namespace="{wanted.namespace}",pod!=""}}',
            "resources": resources,
            "metricsQuery": "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
        }
        for one in (UNDER_WAY, WAITING)
    ]
    return {"rules": rules}


def inference_service(wanted: Wanted) -> Document:
    """KServe's form of the Deployment, which has the server for its own predictor."""
    told = {"serving.kserve.io/deploymentMode": "RawDeployment", "serving.kserve.io/autoscalerClass": "external"}
    spec = pod(wanted, "kserve-container")
    limits = {"minReplicas": wanted.behavior.least, "maxReplicas": wanted.behavior.most}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": wanted.name, "namespace": wanted.namespace, "annotations": told},
        "spec": {"predictor": {**limits, "labels": wanted.labels, **spec}},
    }


def scaled_by(documents: Iterable[Document]) -> set[str]:
    """Metrics that autoscalers among the documents go by, and the rules that find them."""
    found: set[str] = set()
    for one in documents:
        spec = one.get("spec", {})
        if one.get("kind") == "HorizontalPodAutoscaler":
            found |= {str(each["pods"]["metric"]["name"]) for each in spec["metrics"] if each["type"] == "Pods"}
        elif one.get("kind") == "ScaledObject":
            found |= {name for each in spec["triggers"] for name in SERIES.findall(str(each["metadata"].get("query")))}
        elif "rules" in one:
            found |= {name for each in one["rules"] for name in SERIES.findall(str(each["seriesQuery"]))}
    return found


def missing_metrics(scrape: str, documents: Iterable[Document]) -> list[str]:
    """Metrics that an autoscaler goes by and the text of a scrape has no sample of."""
    samples = {re.split(r"[{ ]", line, maxsplit=1)[0] for line in scrape.splitlines() if line and line[0] != "#"}
    return sorted(scaled_by(documents) - samples)
