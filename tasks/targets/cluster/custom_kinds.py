"""Keys of kinds that Kubernetes itself does not know: KEDA, KServe, Argo Rollouts, Prometheus operator, Gateway API.

A cluster drops or refuses a key that a definition does not have; what offline validators there are let it pass. The
tables have what these manifests use and its neighbours. None stands for anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Keys = Mapping[str, Any]  # key -> keys below it, None for anything


def keys(*names: str, **below: Any) -> dict[str, Any]:
    """A table of keys, those by name with anything below."""
    return {**dict.fromkeys(names), **below}


POLICY = keys(
    "selectPolicy", "stabilizationWindowSeconds", "tolerance", policies=keys("type", "value", "periodSeconds")
)
BEHAVIOR = keys(scaleUp=POLICY, scaleDown=POLICY)
PROMETHEUS_TRIGGER = keys(
    "serverAddress", "query", "threshold", "activationThreshold", "namespace", "customHeaders", "ignoreNullValues",
    "queryParameters", "unsafeSsl", "authModes", "timeout",
)  # fmt: skip
POD = keys(
    "automountServiceAccountToken", "enableServiceLinks", "terminationGracePeriodSeconds", "securityContext",
    "topologySpreadConstraints", "containers", "initContainers", "volumes", "nodeSelector", "tolerations", "affinity",
    "runtimeClassName", "serviceAccountName", "imagePullSecrets", "priorityClassName",
)  # fmt: skip
PREDICTOR = keys(
    "minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "containerConcurrency", "timeout", "labels",
    "annotations", "canaryTrafficPercent", "batcher", "logger", "deploymentStrategy", "autoScaling", **POD,
    model=keys("modelFormat", "runtime", "storageUri", "storage", "protocolVersion", "args", "env", "resources"),
)  # fmt: skip
META = keys("name", "namespace", "labels", "annotations")
KINDS: dict[tuple[str, str], Keys] = {
    ("keda.sh/v1alpha1", "ScaledObject"): keys(
        "pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "idleReplicaCount", "minReplicaCount",
        "maxReplicaCount",
        scaleTargetRef=keys("name", "kind", "apiVersion", "envSourceContainerName"),
        fallback=keys("failureThreshold", "replicas", "behavior"),
        advanced=keys(
            "restoreToOriginalReplicaCount", "scalingModifiers",
            horizontalPodAutoscalerConfig=keys("name", behavior=BEHAVIOR),
        ),
        triggers=keys(
            "type", "name", "authenticationRef", "metricType", "useCachedMetrics", metadata=PROMETHEUS_TRIGGER
        ),
    ),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): keys(
        "jobLabel", "targetLabels", "podTargetLabels", "sampleLimit", "attachMetadata",
        selector=keys("matchLabels", "matchExpressions"),
        namespaceSelector=keys("any", "matchNames"),
        endpoints=keys(
            "port", "targetPort", "path", "scheme", "interval", "scrapeTimeout", "honorLabels", "params", "relabelings",
            "metricRelabelings", "tlsConfig", "authorization", "basicAuth", "followRedirects", "enableHttp2",
        ),
    ),
    ("serving.kserve.io/v1beta1", "InferenceService"): keys("transformer", "explainer", predictor=PREDICTOR),
    ("argoproj.io/v1alpha1", "Rollout"): keys(
        "replicas", "revisionHistoryLimit", "minReadySeconds", "progressDeadlineSeconds", "paused", "workloadRef",
        "analysis", "progressDeadlineAbort", "rollbackWindow", "restartAt",
        selector=keys("matchLabels", "matchExpressions"),
        template=keys(metadata=META, spec=POD),
        strategy=keys(
            "blueGreen",
            canary=keys(
                "stableService", "canaryService", "scaleDownDelaySeconds", "maxSurge", "maxUnavailable", "analysis",
                "abortScaleDownDelaySeconds", "dynamicStableScale", "canaryMetadata", "stableMetadata", "antiAffinity",
                "minPodsPerReplicaSet", "pingPong", "scaleDownDelayRevisionLimit",
                trafficRouting=keys(
                    "plugins", "istio", "nginx", "alb", "smi", "traefik", "apisix", "ambassador", "managedRoutes",
                    "maxTrafficWeight",
                ),
                steps=keys(
                    "setWeight", "setCanaryScale", "setHeaderRoute", "setMirrorRoute", "experiment", "plugin",
                    pause=keys("duration"),
                    analysis=keys(
                        "args", "dryRun", "measurementRetention", "analysisRunMetadata",
                        templates=keys("templateName", "clusterScope"),
                    ),
                ),
            ),
        ),
    ),
    ("argoproj.io/v1alpha1", "AnalysisTemplate"): keys(
        "dryRun", "measurementRetention", "templates", args=keys("name", "value", "valueFrom"),
        metrics=keys(
            "name", "interval", "initialDelay", "count", "successCondition", "failureCondition", "failureLimit",
            "inconclusiveLimit", "consecutiveErrorLimit", "consecutiveSuccessLimit",
            provider=keys(
                "job", "web", "plugin",
                prometheus=keys("address", "query", "timeout", "insecure", "headers", "authentication", "rangeQuery"),
            ),
        ),
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): keys(
        "hostnames", parentRefs=keys("name", "namespace", "group", "kind", "sectionName", "port"),
        rules=keys(
            "name", "matches", "filters", "timeouts", "retry", "sessionPersistence",
            backendRefs=keys("name", "port", "weight", "namespace", "group", "kind", "filters"),
        ),
    ),
}  # fmt: skip


def known(document: Mapping[str, Any]) -> bool:
    """Whether there is a table for a document's kind."""
    return (document.get("apiVersion"), document.get("kind")) in KINDS


def unknown_keys(document: Mapping[str, Any]) -> list[str]:
    """Keys of a document that its kind does not have, as paths; raises KeyError for a kind without a table."""
    spec = KINDS[str(document.get("apiVersion")), str(document.get("kind"))]
    whole: Keys = keys("apiVersion", "kind", metadata=META, spec=spec)
    return list(_below(document, whole, ""))


def _below(found: Any, table: Keys | None, path: str) -> Iterator[str]:
    if table is None:
        return
    if isinstance(found, list):
        for number, one in enumerate(found):
            yield from _below(one, table, f"{path}[{number}]")
    elif isinstance(found, Mapping):
        for key, value in found.items():
            if key in table:
                yield from _below(value, table[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif found is not None:
        yield f"{path} (a {type(found).__name__} where keys are wanted)"
