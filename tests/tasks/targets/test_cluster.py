"""A cluster's bundle: what kustomize and the schemas say of it, what is refused, and its own command run here."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from tasks.errors import ConfigError
from tasks.packaging.manifest import CONTENTS, Contents, write_manifest
from tasks.params.whole import load_whole
from tasks.records.bundles import Compared
from tasks.serve.command import parser
from tasks.serve.log.prometheus import Metrics
from tasks.targets.base import Bundles, Shipped
from tasks.targets.cluster import (
    OPTIONS,
    autoscaling,
    checked,
    checks,
    custom_kinds,
    manifests,
    oci,
    pod,
    scaled,
    target,
    told_of,
)
from tests import factories as make
from tests.serving import package
from tests.tasks.targets import test_autoscaling, test_oci

PLACES = os.pathsep.join((os.environ["PATH"], str(Path(sys.executable).parent)))
VALIDATOR = shutil.which(checks.VALIDATOR, path=PLACES)
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
needs_validator = pytest.mark.skipif(VALIDATOR is None, reason="kubernetes-validate is not installed")
DIGEST = "sha256:" + "a" * 64


def shipped(folder: Path, **options: Any) -> Shipped:
    """A package of the right shape that no engine opens."""
    if not folder.exists():
        test_oci.package(folder)
    contents = Contents.read(folder / CONTENTS)
    return Shipped(folder, contents, make.profile(), "tiny", options=options, probes=("One, two, three,",))


def built(folder: Path, **options: Any) -> Path:
    target("cluster", "host").build(shipped(folder / "package", **options), folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("cluster"), digest=DIGEST, callers="front")


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def edited(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the one document of a file."""
    document = yaml.safe_load(file.read_text())
    change(document)
    file.write_text(yaml.safe_dump(document, sort_keys=False))


def base(bundle: Path, name: str) -> Path:
    return bundle / "kustomize" / "base" / f"{name}.yaml"


def container(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["spec"]["template"]["spec"]["containers"][0]
    return found


def test_it_is_a_target_that_makes_bundles() -> None:
    one = target("mine", "host")
    assert isinstance(one, Bundles) and (one.name, one.device) == ("mine", "host")
    assert one.accepts(make.profile(), make.recipe(backend="gguf")).ok
    assert not one.accepts(make.profile(family="arrays"), make.recipe(backend="openvino")).ok


def test_what_can_be_checked_here_passes(bundle: Path) -> None:
    found = {one.name: one for one in target("cluster", "host").validate(bundle)}
    assert [one for one in found.values() if one.state == "failed"] == []
    assert found["the server's image by its digest"].state == "ok"
    assert found["the autoscaler's target"].state == "not-measured"  # no load test was given
    assert "serve.slots" in found["the autoscaler's target"].reason


def test_the_same_package_and_options_give_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    assert test_oci.bytes_of(built(tmp_path, digest=DIGEST, callers="front")) == test_oci.bytes_of(bundle)


def test_the_pod_is_told_of_this_model_and_the_server_takes_its_words(bundle: Path) -> None:
    spec = checks.deployment(bundle)["spec"]["template"]["spec"]
    own, [one] = parser().parse_args(spec["containers"][0]["args"]), spec["containers"]
    assert own.manifest == oci.verify(bundle / "model")[0].digest.removeprefix("sha256:")
    assert one["image"].endswith(f"@{DIGEST}")
    [volume] = [each for each in spec["volumes"] if each["name"] == "package"]
    assert volume["image"]["reference"].endswith(oci.digests(bundle / "model")[oci.IMAGE])
    drain, startup = load_whole().serve.drain_s, one["startupProbe"]
    assert spec["terminationGracePeriodSeconds"] > drain + one["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= load_whole().promotion.max_start_s
    alive = one["livenessProbe"]  # the server mends a model that hangs by itself, which takes a while
    mended = load_whole().serve.hang_s + load_whole().promotion.max_start_s
    assert alive["periodSeconds"] * alive["failureThreshold"] > mended


def test_the_artifact_alone_can_be_mounted(tmp_path: Path) -> None:
    made = built(tmp_path, volume="artifact")
    assert set(oci.digests(made / "model")) == {oci.MODELPACK}
    assert checks.digests_fault(made) == ""


def test_the_ledger_counts_every_byte(bundle: Path, tmp_path: Path) -> None:
    parts = target("cluster", "host").build(shipped(tmp_path / "package"), tmp_path / "bundle")
    files = sum(file.stat().st_size for file in (tmp_path / "bundle").rglob("*") if file.is_file())
    assert sum(one.installed_bytes for one in parts) == files
    assert {one.name for one in parts if one.component == "weights"} == {"weights as modelpack", "weights as image"}


def test_metrics_of_the_autoscalers_are_in_a_scrape_of_the_server(bundle: Path) -> None:
    scrape = generate_latest(Metrics().registry).decode()
    found = checks.documents(bundle)
    assert manifests.scaled_by(found) == {"edgewright_under_way", "edgewright_waiting"}
    assert manifests.missing_metrics(scrape, found) == []
    assert manifests.missing_metrics(scrape.replace("\nedgewright_waiting ", "\n# "), found) == ["edgewright_waiting"]


@pytest.mark.parametrize("file", [
    "kustomize/base/autoscaler.yaml", "kustomize/components/keda/scaled-object.yaml", "prometheus-adapter/rules.yaml",
])  # fmt: skip
def test_a_metric_that_no_server_has_is_named(copy: Path, file: str) -> None:
    place = copy / file
    place.write_text(place.read_text().replace("edgewright_under_way", "edgewright_requests_in_flight"))
    scrape = generate_latest(Metrics().registry).decode()
    assert manifests.missing_metrics(scrape, checks.documents(copy)) == ["edgewright_requests_in_flight"]


def test_a_scrape_without_the_metric_fails_the_comparison() -> None:
    same = Compared(engine="here", state="ok", reason="2 texts are equal", answers=2)
    assert told_of(same, ["edgewright_x"], 1.0).state == "failed"
    assert told_of(same, [], 1.0).state == "ok"


def in_pod(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """A change to the Deployment's container."""
    return lambda made: edited(base(made, "deployment"), lambda d: change(container(d)))


def no_lock(name: str, value: Any) -> Callable[[Path], None]:
    return in_pod(lambda one: one["securityContext"].update({name: value}))


def other_model(made: Path) -> None:
    reference = "registry.example/model@sha256:" + "0" * 64
    edited(
        base(made, "deployment"),
        lambda d: d["spec"]["template"]["spec"]["volumes"][0]["image"].update(reference=reference),
    )


def with_token(made: Path) -> None:
    edited(base(made, "deployment"), lambda d: d["spec"]["template"]["spec"].pop("automountServiceAccountToken"))


def added(file: str, key: str, *path: str | int) -> Callable[[Path], None]:
    """A key more in a file, below `path`."""

    def change(document: Any) -> None:
        for one in path:
            document = document[one]
        document[key] = 1

    return lambda made: edited(made / file, change)


LOCKS, DIGESTS, KEYS = checks.locks_fault, checks.digests_fault, checks.keys_fault


@pytest.mark.parametrize(("fault", "check", "words"), [
    (no_lock("readOnlyRootFilesystem", False), LOCKS, "readOnlyRootFilesystem"),
    (no_lock("runAsUser", 0), LOCKS, "runAsUser"),
    (no_lock("capabilities", {}), LOCKS, "capabilities"),
    (no_lock("seccompProfile", {"type": "Unconfined"}), LOCKS, "seccompProfile"),
    (in_pod(lambda one: one.pop("resources")), LOCKS, "no limits"),
    (in_pod(lambda one: one["readinessProbe"]["httpGet"].update(path="/")), LOCKS, "does not ask /v2/health/ready"),
    (with_token, LOCKS, "a token of the cluster's API"),
    (other_model, DIGESTS, "is not what the layout holds"),
    (in_pod(lambda one: one["args"].__setitem__(5, "0" * 64)), DIGESTS, "is told of manifest 000000000000"),
    (added("kustomize/components/keda/scaled-object.yaml", "coolDownPeriod", "spec"), KEYS, ".spec.coolDownPeriod"),
    (added("kserve/inference-service.yaml", "minReplica", "spec", "predictor"), KEYS, ".spec.predictor.minReplica"),
    (added("kustomize/base/service-monitor.yaml", "intervall", "spec", "endpoints", 0), KEYS, "endpoints[0].intervall"),
    (lambda made: test_oci.flipped(made / "model"), checks.layout_fault, "model/model.gguf was changed"),
])  # fmt: skip
def test_a_broken_bundle_is_refused(copy: Path, fault: Callable[[Path], None], check: Any, words: str) -> None:
    assert check(copy) == ""
    fault(copy)
    assert words in check(copy)


def test_a_changed_file_fails_the_whole(copy: Path) -> None:
    (copy / "README.md").write_text("other")
    failed = [one.reason for one in target("cluster", "host").validate(copy) if one.state == "failed"]
    assert len(failed) == 1 and "README.md was changed" in failed[0]


def test_a_misspelt_key_of_argo_is_found(bundle: Path) -> None:
    rollout = next(one for one in checks.documents(bundle) if one["kind"] == "Rollout")
    assert custom_kinds.unknown_keys(rollout) == []
    canary = rollout["spec"]["strategy"]["canary"]
    canary["trafficrouting"] = canary.pop("trafficRouting")
    assert custom_kinds.unknown_keys(rollout) == [".spec.strategy.canary.trafficrouting"]
    canary["steps"] = "none"
    assert any("where keys are wanted" in one for one in custom_kinds.unknown_keys(rollout))


@needs_kubectl
def test_every_overlay_is_made_by_kustomize(bundle: Path) -> None:
    made = checks.rendered(bundle)
    assert set(made) == {"cpu", "intel-gpu", "intel-npu", "nvidia", "cpu with keda", "cpu with init-pull"}
    resources = {"nvidia": "nvidia.com/gpu", "intel-npu": "npu.intel.com/accel", "intel-gpu": "gpu.intel.com/i915"}
    for device, resource in resources.items():
        spec = next(one for one in made[device] if one["kind"] == "Deployment")["spec"]["template"]["spec"]
        assert spec["containers"][0]["resources"]["limits"][resource] == "1"
    pulled = next(one for one in made["cpu with init-pull"] if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    digest = oci.digests(bundle / "model")[oci.MODELPACK]
    assert pulled["initContainers"][0]["args"][1].endswith(digest)
    keda = [one["kind"] for one in made["cpu with keda"]]
    assert "ScaledObject" in keda and "HorizontalPodAutoscaler" not in keda


def no_patches(folder: str) -> Callable[[Path], None]:
    return lambda made: edited(made / "kustomize" / folder / "kustomization.yaml", lambda d: d.pop("patches"))


def still_mounted(made: Path) -> None:
    edited(made / "kustomize/components/init-pull/kustomization.yaml", lambda d: d["patches"].pop(0))


@needs_kubectl
@pytest.mark.parametrize(("fault", "words"), [
    (lambda made: base(made, "service").unlink(), "service.yaml"),
    (no_patches("overlays/nvidia"), "asks for no nvidia.com/gpu"),
    (no_patches("components/keda"), "2 autoscalers"),
    (still_mounted, "its package comes from image"),
])  # fmt: skip
def test_an_overlay_that_is_not_right_is_refused(copy: Path, fault: Callable[[Path], None], words: str) -> None:
    fault(copy)
    found, _ = checks.kustomized(copy)
    assert found.state == "failed" and words in found.reason


@needs_validator
@pytest.mark.parametrize(("name", "fault"), [
    ("deployment", lambda d: container(d)["securityContext"].update(readOnlyRootFileSystem=True)),
    ("deployment", lambda d: container(d)["readinessProbe"].update(periodSeconds="often")),
    ("autoscaler", lambda d: d["spec"].update(minReplica=1)),
    ("disruption-budget", lambda d: d["spec"].update(minavailable=1)),
    ("network-policy", lambda d: d.update(kind="NetworkPolicies")),  # a kind that is not known is only a warning there
])  # fmt: skip
def test_the_schemas_refuse_what_kubernetes_does_not_have(copy: Path, name: str, fault: Callable[[Any], None]) -> None:
    assert checks.schema_fault(str(VALIDATOR), [yaml.safe_load(base(copy, name).read_text())]) == ""
    edited(base(copy, name), fault)
    assert checks.schema_fault(str(VALIDATOR), [yaml.safe_load(base(copy, name).read_text())]) != ""


@needs_validator
def test_the_schemas_take_all_of_it(bundle: Path) -> None:
    found = checks.schemas(checks.documents(bundle))
    assert found.state == "ok", found.reason


@pytest.mark.parametrize("tool", ["kubectl", "kubernetes-validate"])
def test_a_tool_that_is_not_there_is_said(bundle: Path, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    found = checks.kustomized(bundle)[0] if tool == "kubectl" else checks.schemas([])
    assert found.state == "not-measured" and tool in found.reason


@pytest.mark.parametrize(("options", "words"), [
    ({"replicas": 1}, "options.replicas is not known"),
    ({"namespace": "No Name"}, "is no Kubernetes name"),
    ({"volume": "nfs"}, "allowed: image, artifact"),
    ({"digest": "latest"}, "is no digest"),
    ({"min_replicas": 4, "max_replicas": 2}, "max_replicas not below it"),
    ({"knee": "six"}, "is no number above 0"),
    ({"start_s": True}, "is no number above 0"),
    ({"growth_percent": 90}, "outruns pods"),
    ({"load_steps": "nowhere.json"}, "holds no steps of a load test"),
])  # fmt: skip
def test_options_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        built(tmp_path, **options)


def test_the_target_comes_from_a_load_test_and_its_replay(tmp_path: Path) -> None:
    steps = [test_autoscaling.step(rate, 300.0 if rate < 5 else 2000.0) for rate in (1.0, 2.0, 4.0, 6.0)]
    (tmp_path / "steps.json").write_text(json.dumps([one.model_dump() for one in steps]))
    options = checked("cluster", OPTIONS | {"load_steps": str(tmp_path / "steps.json"), "start_s": 6})
    found = scaled(options, load_whole())
    assert found.stand_ins == () and found.replay is not None
    assert found.target.value <= 4.0 * (1 - 0.1 / 60 * 36)
    assert "measured by a load test" in found.target.why and "Replayed" in found.target.why
    with pytest.raises(ConfigError, match="no rate keeps 10 ms"):
        scaled(options | {"first_ms": 10}, load_whole())


def test_the_derivation_stands_where_people_look(bundle: Path) -> None:
    hpa = yaml.safe_load(base(bundle, "autoscaler").read_text())
    words = hpa["metadata"]["annotations"][manifests.DERIVED]
    assert words in (bundle / "README.md").read_text() and "knee x (1 - growth x startup)" in words
    targets = {one["pods"]["target"]["averageValue"] for one in hpa["spec"]["metrics"]}
    value = json.loads((bundle / "autoscaling.json").read_text())["target"]
    assert targets == {autoscaling.Target(value, "").quantity}
    trigger = yaml.safe_load((bundle / "kustomize/components/keda/scaled-object.yaml").read_text())["spec"]["triggers"][
        0
    ]
    assert trigger["metadata"]["ignoreNullValues"] == "false" and float(trigger["metadata"]["threshold"]) == value


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shipped, Path]:
    """A package that answers, and its bundle."""
    folder = tmp_path_factory.mktemp("whole")
    package(folder / "package", tiny_model)
    one = shipped(folder / "package")
    target("cluster", "host").build(one, folder / "bundle")
    return one, folder / "bundle"


def test_its_own_command_answers_as_the_package(whole: tuple[Shipped, Path]) -> None:
    found = target("cluster", "host").compare(*whole)
    assert found.state == "ok", found.reason
    assert found.answers == 1 and "its scrape has every metric" in found.reason


def test_a_server_that_is_told_of_another_package_does_not_start(whole: tuple[Shipped, Path], tmp_path: Path) -> None:
    made = Path(shutil.copytree(whole[1], tmp_path / "bundle"))
    edited(base(made, "deployment"), lambda d: container(d)["args"].__setitem__(5, "0" * 64))
    found = target("cluster", "host").compare(whole[0], made)
    assert found.state == "failed"
    assert "it ended with 2" in found.reason and "is not the one that was registered" in found.reason


def test_a_bundle_of_another_model_is_found_by_its_answers(whole: tuple[Shipped, Path], tmp_path: Path) -> None:
    other = Path(shutil.copytree(whole[0].package, tmp_path / "package"))
    (other / "MANIFEST.json").unlink()
    weights = other / "model" / "model.gguf"
    raw = bytearray(weights.read_bytes())
    raw[-299_999::2] = bytes(one ^ 0x80 for one in raw[-299_999::2])  # signs of its last tensors, in 16 bits each
    weights.write_bytes(raw)
    write_manifest(other)
    target("cluster", "host").build(replace(whole[0], package=other), tmp_path / "bundle")
    found = target("cluster", "host").compare(whole[0], tmp_path / "bundle")
    assert found.state == "failed" and "texts differ from the package's" in found.reason


def test_the_words_of_a_container_stay_but_for_its_places() -> None:
    words = ["--package", "/package", "--name", "a", "--host", "0.0.0.0", "--port", "8080", "--log", "/log"]
    assert pod.here(words, Path("/p"), Path("/l")) == [
        "--package", "/p", "--name", "a", "--host", "127.0.0.1", "--port", "0", "--log", "/l"
    ]  # fmt: skip
