"""A Kubernetes cluster: a kustomize base with overlays, the model as an OCI artifact, a measured autoscaler.

Options (`targets.NAME.options`):
* `image`, `digest`: of the server; without a digest it is set in an overlay. `model`: the repository of the model.
* `volume`: `image` (an image that every runtime with image volumes mounts; the layout holds the files twice) or
  `artifact` (the ModelPack artifact itself, for runtimes that mount artifacts).
* `namespace`; `callers`: other namespaces whose pods may ask, with commas; `monitoring`, `prometheus`: who scrapes.
* `cpu`, `memory`: of a pod; memory is left out for one after the package's size. `min_replicas`, `max_replicas`.
* `load_steps`: steps.json of a load test of this package; `first_ms`, `between_ms`: the objectives its knee is read at.
  `knee`, `start_s`: instead, as they were measured elsewhere. `growth_percent`: of a pod's knee in a minute.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from pydantic import ValidationError

from tasks.errors import ConfigError, EdgewrightError
from tasks.packaging.manifest import NAME, sha256
from tasks.params.whole import Whole, load_whole
from tasks.records.base import Support, write_text
from tasks.records.bundles import Check, Compared, Component, Part
from tasks.records.load import LoadStep
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.run.disk import size_bytes
from tasks.targets import answers, bundled, over_http, served
from tasks.targets.base import Defaults, Shipped
from tasks.targets.cluster import autoscaling, checks, kubernetes, manifests, oci, pod
from tasks.targets.cluster.kustomize import DEVICES, tree

DEFAULTS = Defaults(device="host")
OPTIONS: dict[str, Any] = {
    "image": "registry.example/edgewright-server", "digest": "", "model": "registry.example/edgewright-model",
    "volume": "image", "namespace": "edgewright", "callers": "", "monitoring": "monitoring",
    "prometheus": "http://prometheus.monitoring:9090", "gateway": "gateway", "cpu": "2", "memory": "",
    "min_replicas": 2, "max_replicas": 10, "growth_percent": 10, "load_steps": "", "first_ms": 1000, "between_ms": 150,
    "knee": None, "start_s": None,
}  # fmt: skip
VOLUMES = ("image", "artifact")
MODEL, SCALING = "model", "autoscaling.json"
ENGINE = "the Deployment's container arguments, as a process here"
RUNTIME_MIB, STEP_MIB = 768, 256  # Python, the server and a runtime's libraries; memory is asked for in such steps


@dataclass(frozen=True)
class Cluster:
    """A model in pods of one cluster."""

    name: str
    device: str

    def accepts(self, model: ModelProfile, recipe: Recipe) -> Support:
        """Whether the server, which is the same in a pod, opens the artifact."""
        if model.family != "tokens":
            reason = f"its autoscaler goes by requests that write, and the model is of {model.family}"
            return Support(ok=False, reason=reason)
        return served.Served(self.name, self.device).accepts(model, recipe)

    def build(self, shipped: Shipped, out: Path) -> tuple[Part, ...]:
        """Write the bundle; raises ConfigError for options that are not known or do not go together."""
        told = checked(self.name, bundled.options(self.name, shipped.options, OPTIONS))
        params = load_whole()
        names = oci.write(shipped.package, shipped.contents, shipped.profile, out / MODEL, told["volume"] == "image")
        scaling = scaled(told, params)
        wanted = _wanted(shipped, told, params, names, scaling.target)
        artifact = f"{told['model']}@{names[oci.MODELPACK]}"
        for place, documents in tree(wanted, artifact).items():
            write_text(out / place, yaml.safe_dump_all(documents, sort_keys=False, width=110))
        write_text(out / "argo" / "rollout.yaml", kubernetes.rendered(_rollout(wanted, told, params)))
        write_text(out / SCALING, json.dumps(scaling.told(), indent=2) + "\n")
        bundled.from_templates("cluster", out, _words(shipped, told, wanted, names, artifact))
        bundled.sign_off(shipped, self.name, out)
        return ledger(out)

    def validate(self, bundle: Path) -> tuple[Check, ...]:
        """The layout, every overlay as kustomize makes it, schemas, keys of other kinds, and what pods may do."""
        overlays, made = checks.kustomized(bundle)
        return (
            bundled.check("OCI layout, every blob by its digest", lambda: checks.layout_fault(bundle)),
            bundled.check("digests in the manifests", lambda: checks.digests_fault(bundle)),
            bundled.check("what a container may do", lambda: checks.locks_fault(bundle)),
            bundled.check("keys of kinds beside Kubernetes' own", lambda: checks.keys_fault(bundle)),
            overlays,
            checks.schemas([*checks.documents(bundle), *made]),
            _by_digest(bundle),
            _measured(bundle),
            Check(
                name="devices of the overlays", state="not-measured",
                reason="no pod was started on a node with a GPU or NPU: the server opens its model on the processor",
            ),
            bundled.manifest_check(bundle),
        )  # fmt: skip

    def compare(self, shipped: Shipped, bundle: Path) -> Compared:
        """Answers of the Deployment's own command on the model out of the layout, beside the package's."""
        try:
            [container] = checks.deployment(bundle)["spec"]["template"]["spec"]["containers"]
            with TemporaryDirectory(prefix="edgewright-pod-") as folder:
                scratch = Path(folder)
                oci.unpack(bundle / MODEL, scratch / "package")
                with pod.running(container, scratch / "package", scratch) as server:
                    found = over_http.compared(ENGINE, shipped, server, answers.encoded(shipped))
                    missing = manifests.missing_metrics(server.get("/metrics"), checks.documents(bundle))
        except (EdgewrightError, OSError, ValueError, KeyError, RuntimeError) as error:
            return Compared(engine=ENGINE, state="failed", reason=f"{type(error).__name__}: {error}")
        return told_of(found, missing, server.start_s)


def target(name: str, device: str) -> Cluster:
    """The target called `name`."""
    return Cluster(name, device)


def told_of(found: Compared, missing: list[str], start_s: float) -> Compared:
    """What was compared, with the probe and the autoscaler's metrics, which the scrape has or lacks."""
    if missing:
        reason = f"{found.reason}; its scrape has no {', '.join(missing)}, which the autoscaler goes by"
        return found.model_copy(update={"state": "failed", "reason": reason})
    well = f"ready by {manifests.READY} after {start_s:.1f} s, its scrape has every metric the autoscaler goes by"
    return found.model_copy(update={"reason": f"{found.reason}; {well}"})


@dataclass(frozen=True)
class Scaling:
    """The autoscaler's target with what it was derived from."""

    target: autoscaling.Target
    stand_ins: tuple[str, ...]  # figures that no measurement gave
    replay: autoscaling.Replay | None = None

    def told(self) -> dict[str, Any]:
        """As the bundle keeps it."""
        said: dict[str, Any] = {"target": self.target.value, "derivation": self.target.why}
        said["stand_ins"] = list(self.stand_ins)
        if self.replay is not None:
            said["replay"] = {
                "missed_share": round(self.replay.missed_share, 5), "flaps": self.replay.flaps,
                "replica_seconds": self.replay.replica_seconds, "most_pods": self.replay.most,
            }  # fmt: skip
        return said


def scaled(told: Mapping[str, Any], params: Whole) -> Scaling:
    """The autoscaler's target; what was not measured has a stand-in, which is said."""
    steps = _steps(told["load_steps"]) if told["load_steps"] else []
    found = autoscaling.knee(steps, told["first_ms"], told["between_ms"]) if steps else None
    if steps and found is None:
        raise ConfigError(
            f"{told['load_steps']}: no rate keeps {told['first_ms']} ms to the first token and {told['between_ms']} ms "
            "between tokens; set other objectives, or deploy a faster variant"
        )
    stand_ins = []
    if told["knee"] is not None:
        knee, knee_from = float(told["knee"]), "as the option `knee` says it was measured"
    elif found is not None:
        knee = found
        knee_from = f"measured by a load test, p95 within {told['first_ms']} and {told['between_ms']} ms"
    else:
        knee, knee_from = float(params.serve.slots), "serve.slots: no load test was given"
        stand_ins.append("knee")
    start_s, start_from = told["start_s"], "as the option `start_s` says it was measured"
    if start_s is None:
        start_s, start_from = params.promotion.max_start_s, "promotion.max_start_s, the longest that is allowed"
        stand_ins.append("start_s")
    growth = told["growth_percent"] / 100
    target = autoscaling.derived(min(knee, params.serve.slots), knee_from, float(start_s), start_from, growth)
    points = autoscaling.curve(steps)
    if not points:
        return Scaling(target, tuple(stand_ins))
    behavior = autoscaling.Behavior(told["min_replicas"], told["max_replicas"])
    own = autoscaling.Cluster(points, params.serve.slots, knee, target.value, float(start_s), behavior)
    better, outcome = autoscaling.proven(target, own, growth)
    return Scaling(better, tuple(stand_ins), outcome)


def checked(name: str, told: dict[str, Any]) -> dict[str, Any]:
    """The options, each of them possible; raises ConfigError."""
    where = f"targets.{name}.options"
    for one in ("namespace", "monitoring", "gateway"):
        if not kubernetes.NAME.fullmatch(told[one]):
            raise ConfigError(f"{where}.{one}: {told[one]!r} is no Kubernetes name: lower case letters, digits and '-'")
    if told["volume"] not in VOLUMES:
        raise ConfigError(f"{where}.volume: {told['volume']!r} is not known; allowed: {', '.join(VOLUMES)}")
    if told["digest"]:
        try:
            oci.blob(Path(), told["digest"])
        except EdgewrightError as error:
            raise ConfigError(f"{where}.digest: {error}") from None
    if not 1 <= told["min_replicas"] <= told["max_replicas"]:
        raise ConfigError(f"{where}: min_replicas is at least 1, and max_replicas not below it")
    for one in ("knee", "start_s"):
        value = told[one]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
            raise ConfigError(f"{where}.{one}: {value!r} is no number above 0")
    return told


def ledger(bundle: Path) -> tuple[Part, ...]:
    """Sizes by component; nodes fetch one of the model's forms, and the server's image besides."""
    found: dict[tuple[Component, str], int] = {}
    for form in oci.digests(bundle / MODEL):
        for layer in oci.verify(bundle / MODEL, form):
            what: Component = "metadata"
            if layer.path.startswith("model/"):
                what = "weights"
            elif layer.path.startswith("tokenizer/"):
                what = "tokenizer"
            key = (what, f"{what} as {form}")
            found[key] = found.get(key, 0) + layer.size
    rest = size_bytes(bundle) - sum(found.values())
    found["metadata", "manifests, settings, digests"] = rest
    return tuple(Part(component=c, name=n, download_bytes=s, installed_bytes=s) for (c, n), s in found.items())


def _wanted(
    shipped: Shipped, told: Mapping[str, Any], params: Whole, names: Mapping[str, str], target: autoscaling.Target
) -> manifests.Wanted:
    if not kubernetes.NAME.fullmatch(shipped.name):
        raise ConfigError(
            f"track.model_name {shipped.name!r} is no Kubernetes name: lower case letters, digits and '-'"
        )
    form = oci.IMAGE if told["volume"] == "image" else oci.MODELPACK
    serve = params.serve.model_copy(update={"port": params.serve.port or 8080})
    return manifests.Wanted(
        name=shipped.name,
        namespace=told["namespace"],
        image=f"{told['image']}@{told['digest']}" if told["digest"] else told["image"],
        volume=manifests.image_volume(f"{told['model']}@{names[form]}"),
        manifest_sha256=sha256(shipped.package / NAME),
        serve=serve,
        max_start_s=params.promotion.max_start_s,
        cpu=told["cpu"],
        memory=told["memory"] or _memory(shipped.model),
        target=target,
        behavior=autoscaling.Behavior(told["min_replicas"], told["max_replicas"]),
        callers=tuple(one.strip() for one in told["callers"].split(",") if one.strip()),
        monitoring=told["monitoring"],
        prometheus=told["prometheus"],
    )


def _memory(model: Path) -> str:
    """Twice the model, as runtimes repack weights and keep what they computed, and the server."""
    mib = 2 * size_bytes(model) / 2**20 + RUNTIME_MIB
    return f"{math.ceil(mib / STEP_MIB) * STEP_MIB}Mi"


def _rollout(wanted: manifests.Wanted, told: Mapping[str, Any], params: Whole) -> list[dict[str, Any]]:
    package = str(wanted.volume["image"]["reference"])
    own = params.model_copy(update={"serve": wanted.serve})
    resources = {"cpu": wanted.cpu, "memory": wanted.memory}
    return kubernetes.manifests(
        own, wanted.image, told["gateway"], wanted.prometheus, namespace=wanted.namespace, package=package, **resources
    )


def _words(
    shipped: Shipped, told: Mapping[str, Any], wanted: manifests.Wanted, names: Mapping[str, str], artifact: str
) -> dict[str, str]:
    form = oci.IMAGE if told["volume"] == "image" else oci.MODELPACK
    return {
        "NAME": wanted.name, "NAMESPACE": wanted.namespace, "VARIANT": shipped.contents.variant, "MODEL": told["model"],
        "FORM": form, "DIGEST": names[form], "ARTIFACT": artifact, "IMAGE": told["image"],
        "DERIVATION": wanted.target.why, "DEVICES": ", ".join(DEVICES), "MANIFEST": wanted.manifest_sha256,
    }  # fmt: skip


def _steps(file: str) -> list[LoadStep]:
    try:
        raw = json.loads(Path(file).read_bytes())
        return [LoadStep.model_validate(one) for one in raw]
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise ConfigError(f"load_steps: {file} holds no steps of a load test (`make loadtest`): {error}") from None


def _by_digest(bundle: Path) -> Check:
    [container] = checks.deployment(bundle)["spec"]["template"]["spec"]["containers"]
    name = "the server's image by its digest"
    if "@sha256:" in container["image"]:
        return Check(name=name, state="ok", reason=container["image"])
    why = (
        f"no digest was given for {container['image']}: set options.digest, or `kustomize edit set image` in an overlay"
    )
    return Check(name=name, state="not-measured", reason=why)


def _measured(bundle: Path) -> Check:
    name, said = "the autoscaler's target", json.loads((bundle / SCALING).read_bytes())
    if said["stand_ins"]:
        why = f"{', '.join(said['stand_ins'])} not measured (options load_steps, start_s): {said['derivation']}"
        return Check(name=name, state="not-measured", reason=why)
    replayed = said.get("replay")
    if replayed and replayed["missed_share"] > autoscaling.MISSED:
        return Check(name=name, state="failed", reason=said["derivation"])
    return Check(name=name, state="ok", reason=said["derivation"])
