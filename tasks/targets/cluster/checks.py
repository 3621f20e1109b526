"""What is asked of a cluster's bundle: digests that fit, pods that may do little, known keys, kustomize and schemas."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from tasks.errors import ModelError
from tasks.packaging.manifest import NAME
from tasks.records.bundles import Check
from tasks.targets.cluster import custom_kinds, manifests, oci
from tasks.targets.cluster.kustomize import COMPONENTS, DEVICES, ROOT

MODEL, DEPLOYMENT = "model", f"{ROOT}/base/deployment.yaml"
TOOL_S = 60.0
FLOOR = "1.35"  # the first Kubernetes that has image volumes on by default
VALIDATOR = "kubernetes-validate"
KUSTOMIZE = ("Kustomization", "Component")
Document = dict[str, Any]


def documents(bundle: Path) -> list[Document]:
    """Everything a cluster would be given, as it is in the files."""
    found = []
    for file in sorted(bundle.rglob("*.yaml")):
        for one in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            if one and one.get("kind") not in KUSTOMIZE:
                found.append(one)
    return found


def deployment(bundle: Path) -> Document:
    """The base's Deployment."""
    found: Document = yaml.safe_load((bundle / DEPLOYMENT).read_text(encoding="utf-8"))
    return found


def layout_fault(bundle: Path) -> str:
    """Every manifest of the layout with all its blobs."""
    for form in oci.digests(bundle / MODEL):
        try:
            oci.verify(bundle / MODEL, form)
        except ModelError as error:
            return str(error)
    return ""


def digests_fault(bundle: Path) -> str:
    """The pods' model is that of the layout, by both digests: the volume's, and the one the server is told."""
    layout = bundle / MODEL
    digests = oci.digests(layout)
    told = {layer.path: layer.digest for layer in oci.verify(layout)}[NAME].removeprefix("sha256:")
    for place, spec in pods(bundle):
        for volume in spec["volumes"]:
            reference = str((volume.get("image") or {}).get("reference", ""))
            if reference and reference.partition("@")[2] not in digests.values():
                return f"{place}: the volume {reference} is not what the layout holds"
        for container in spec["containers"]:
            words = container.get("args", [])
            given = words[words.index("--manifest") + 1] if "--manifest" in words else ""
            if given and given != told:
                return f"{place}: the server is told of manifest {given[:12]}, the layout holds {told[:12]}"
    pull = (bundle / ROOT / "components" / "init-pull" / "kustomization.yaml").read_text(encoding="utf-8")
    return "" if digests[oci.MODELPACK] in pull else "init-pull fetches another digest than the layout's"


def pods(bundle: Path) -> Iterator[tuple[str, Document]]:
    """Specifications of pods, by what makes them."""
    for one in documents(bundle):
        name = f"{one.get('kind')}/{one.get('metadata', {}).get('name')}"
        if one.get("kind") in ("Deployment", "Rollout"):
            yield name, one["spec"]["template"]["spec"]
        elif one.get("kind") == "InferenceService":
            yield name, one["spec"]["predictor"]


def locks_fault(bundle: Path) -> str:
    """No container may do more than a server of a model needs, and each says what it takes and whether it is ready."""
    return next((f"{place}: {fault}" for place, spec in pods(bundle) if (fault := pod_fault(spec))), "")


def pod_fault(spec: Document) -> str:
    """What a pod may do that it should not, or does not say; empty where nothing."""
    if spec.get("automountServiceAccountToken") is not False:
        return "the pod gets a token of the cluster's API"
    for one in [*spec["containers"], *spec.get("initContainers", [])]:
        own = one.get("securityContext", {})
        wanted = manifests.locked_container()
        apart = [name for name, value in wanted.items() if own.get(name) != value]
        if apart:
            return f"{one['name']}: {', '.join(apart)} should be {', '.join(str(wanted[name]) for name in apart)}"
        if not {"cpu", "memory"} <= one.get("resources", {}).get("limits", {}).keys():
            return f"{one['name']} has no limits of cpu and memory"
    for one in spec["containers"]:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if one.get(probe, {}).get("httpGet", {}).get("path") != manifests.READY:
                return f"{one['name']}: {probe} does not ask {manifests.READY}, which answers from a real generation"
    return ""


def keys_fault(bundle: Path) -> str:
    """Keys that KEDA, KServe, Argo Rollouts, the Prometheus operator or the Gateway API do not have."""
    found = [
        f"{one['kind']}/{one['metadata']['name']}: {', '.join(unknown)}"
        for one in documents(bundle)
        if custom_kinds.known(one) and (unknown := custom_kinds.unknown_keys(one))
    ]
    return "; ".join(found)


def kustomized(bundle: Path) -> tuple[Check, list[Document]]:
    """Every overlay, and the first with each component, as kustomize makes them; and the documents that came of it."""
    name = "kubectl kustomize"
    if shutil.which("kubectl") is None:
        return Check(name=name, state="not-measured", reason="kubectl is not installed here"), []
    try:
        made = rendered(bundle)
    except (ValueError, OSError, subprocess.SubprocessError, yaml.YAMLError) as error:
        return Check(name=name, state="failed", reason=str(error)), []
    found = [one for documents in made.values() for one in documents]
    return Check(name=name, state="ok", reason=f"{', '.join(made)}: {len(found)} documents"), found


def rendered(bundle: Path) -> dict[str, list[Document]]:
    """Documents of each overlay, and of the first with each component; raises ValueError where one is not right."""
    found: dict[str, list[Document]] = {}
    with TemporaryDirectory(prefix="edgewright-kustomize-") as folder:
        copy = Path(shutil.copytree(bundle / ROOT, Path(folder) / ROOT))
        for device in DEVICES:
            found[device] = _built(copy / "overlays" / device)
        first = next(iter(DEVICES))
        for component in COMPONENTS:
            place = copy / "chosen" / component
            place.mkdir(parents=True)
            chosen = {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [f"../../overlays/{first}"],
                "components": [f"../../components/{component}"],
            }
            (place / "kustomization.yaml").write_text(json.dumps(chosen), encoding="utf-8")
            found[f"{first} with {component}"] = _built(place)
    for name, made in found.items():
        if fault := overlay_fault(name, made):
            raise ValueError(f"{name}: {fault}")
    return found


def _built(folder: Path) -> list[Document]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=TOOL_S, check=False
    )  # fmt: skip
    if done.returncode:
        raise ValueError(f"{folder.name}: {done.stderr.strip()[-400:]}")
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def overlay_fault(name: str, made: list[Document]) -> str:
    """What an overlay should have made, and did not."""
    kinds = [one["kind"] for one in made]
    scalers = [one for one in kinds if one in ("HorizontalPodAutoscaler", "ScaledObject")]
    if len(scalers) != 1:
        return f"it has {len(scalers)} autoscalers, not one"
    spec = next(one for one in made if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    if fault := pod_fault(spec):
        return fault
    device, _, component = name.partition(" with ")
    wanted = DEVICES[device].get("resource")
    limits = spec["containers"][0]["resources"]["limits"]
    if wanted and wanted not in limits:
        return f"its container asks for no {wanted}"
    volume = next(one for one in spec["volumes"] if one["name"] == "package")
    if ("image" in volume) == (component == "init-pull"):
        return f"its package comes from {', '.join(key for key in volume if key != 'name')}"
    return "" if len({one["metadata"].get("namespace") for one in made}) == 1 else "it has more than one namespace"


def schemas(found: list[Document]) -> Check:
    """Kubernetes' own kinds against the schemas of their version, strictly; a warning is a failure."""
    name = f"{VALIDATOR} --strict, {FLOOR}"
    tool = shutil.which(VALIDATOR) or shutil.which(VALIDATOR, path=str(Path(sys.executable).parent))
    if tool is None:
        return Check(name=name, state="not-measured", reason=f"{VALIDATOR} is not installed here (PyPI)")
    core = list({json.dumps(one, sort_keys=True): one for one in found if is_core(one)}.values())
    fault = schema_fault(tool, core)
    return Check(name=name, state="failed" if fault else "ok", reason=fault or f"{len(core)} documents are valid")


def is_core(document: Document) -> bool:
    """Whether Kubernetes itself has the kind: its groups have no name of their own, or end in .k8s.io."""
    group = str(document.get("apiVersion", "")).rpartition("/")[0]
    own = "." not in group or group.endswith(".k8s.io")
    return "kind" in document and not custom_kinds.known(document) and own


def schema_fault(tool: str, found: list[Document]) -> str:
    """What the validator says against documents; empty where it passed each of them."""
    with TemporaryDirectory(prefix="edgewright-schemas-") as folder:
        file = Path(folder) / "documents.yaml"
        file.write_text(yaml.safe_dump_all(found), encoding="utf-8")
        done = subprocess.run(
            [tool, "--strict", "-k", FLOOR, str(file)], capture_output=True, text=True, timeout=TOOL_S, check=False
        )
    lines = [one.replace(str(file), "").strip() for one in (done.stdout + done.stderr).splitlines()]
    bad = [one for one in lines if not one.startswith("INFO")]
    if bad or done.returncode:
        return "; ".join(bad[:3]) or f"exit code {done.returncode}"
    passed = sum(" passed for resource " in one for one in lines)
    return "" if passed == len(found) else f"{passed} of {len(found)} documents were looked at"
