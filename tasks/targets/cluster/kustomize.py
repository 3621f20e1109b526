"""The manifests of one model as a kustomize tree: a base, an overlay for each kind of device, components. Pure."""

from __future__ import annotations

from typing import Any

import yaml

from tasks.targets.cluster import manifests
from tasks.targets.cluster.manifests import Document, Wanted

ROOT = "kustomize"
COMPONENTS = ("keda", "init-pull")
# Resources of device plugins, and what else a pod needs to come to such a node.
DEVICES: dict[str, Document] = {
    "cpu": {},
    "intel-gpu": {"resource": "gpu.intel.com/i915"},
    "intel-npu": {"resource": "npu.intel.com/accel"},
    "nvidia": {
        "resource": "nvidia.com/gpu",
        "pod": {
            "runtimeClassName": "nvidia",
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        },
    },
}


def tree(wanted: Wanted, artifact: str) -> dict[str, list[Document]]:
    """Documents by the file they go to; `artifact` is the ModelPack's reference with its digest."""
    base = {
        "deployment": manifests.deployment(wanted),
        "service": manifests.service(wanted),
        "disruption-budget": manifests.disruption_budget(wanted),
        "network-policy": manifests.network_policy(wanted),
        "service-monitor": manifests.service_monitor(wanted),
        "autoscaler": manifests.autoscaler(wanted),
    }
    found = {f"{ROOT}/base/{name}.yaml": [document] for name, document in base.items()}
    whole = {"namespace": wanted.namespace, "resources": [f"{name}.yaml" for name in base]}
    found[f"{ROOT}/base/kustomization.yaml"] = [_kustomization(**whole)]
    for device, told in DEVICES.items():
        found[f"{ROOT}/overlays/{device}/kustomization.yaml"] = [_overlay(wanted, device, told)]
    found[f"{ROOT}/components/keda/scaled-object.yaml"] = [manifests.scaled_object(wanted)]
    found[f"{ROOT}/components/keda/kustomization.yaml"] = [_keda(wanted)]
    found[f"{ROOT}/components/init-pull/kustomization.yaml"] = [_init_pull(wanted, artifact)]
    found["prometheus-adapter/rules.yaml"] = [manifests.adapter_rules(wanted)]
    scaler = manifests.autoscaler(wanted, f"{wanted.name}-predictor")
    scaler["metadata"]["namespace"] = wanted.namespace
    found["kserve/inference-service.yaml"] = [manifests.inference_service(wanted)]
    found["kserve/autoscaler.yaml"] = [scaler]
    return found


def _kustomization(**fields: Any) -> Document:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **fields}


def _component(**fields: Any) -> Document:
    return {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component", **fields}


def _patch(document: Document) -> Document:
    return {"patch": yaml.safe_dump(document, sort_keys=False)}


def _of_deployment(wanted: Wanted, spec: Document) -> Document:
    """A change to the pods of the Deployment."""
    head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": wanted.name}}
    return _patch({**head, "spec": {"template": {"spec": spec}}})


def _overlay(wanted: Wanted, device: str, told: Document) -> Document:
    labels = [{"pairs": {"edgewright/device": device}, "includeSelectors": False, "includeTemplates": True}]
    fields: Document = {"resources": ["../../base"], "labels": labels}
    if told:
        one = {told["resource"]: "1"}
        resources = {"requests": one, "limits": one}
        spec = {**told.get("pod", {}), "containers": [{"name": "server", "resources": resources}]}
        fields["patches"] = [_of_deployment(wanted, spec)]
    return _kustomization(**fields)


def _keda(wanted: Wanted) -> Document:
    """KEDA makes an autoscaler of its own; two of them would pull at the same pods."""
    gone = {
        "$patch": "delete",
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": wanted.name},
    }
    return _component(namespace=wanted.namespace, resources=["scaled-object.yaml"], patches=[_patch(gone)])


def _init_pull(wanted: Wanted, artifact: str) -> Document:
    """Where nodes have no image volumes: the pod fetches the artifact by its digest before the server starts."""
    puller = {
        "name": "pull",
        "image": wanted.image,
        "command": ["python", "-m", "tasks.targets.cluster.registry"],
        "args": ["pull", artifact, "/package"],
        "resources": {
            "requests": {"cpu": "500m", "memory": "256Mi"},
            "limits": {"cpu": wanted.cpu, "memory": "256Mi"},
        },
        "securityContext": manifests.locked_container(),
        "volumeMounts": [{"name": "package", "mountPath": "/package"}],
    }
    volume: Document = {"name": "package", "image": None, "emptyDir": {}}
    network = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": wanted.name},
        "spec": {"egress": [{"ports": [{"protocol": "UDP", "port": 53}, *_tcp(53, 443, 5000)]}]},
    }
    spec = {"initContainers": [puller], "volumes": [volume]}
    return _component(patches=[_of_deployment(wanted, spec), _patch(network)])


def _tcp(*ports: int) -> list[Document]:
    return [{"protocol": "TCP", "port": port} for port in ports]
