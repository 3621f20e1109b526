"""The sanity check, and conversions that do not go well: all recorded, none fatal."""

from __future__ import annotations

import shutil
from collections import namedtuple

import numpy as np
import pytest

from tasks.convert import convert
from tasks.data import data
from tasks.errors import ResourceError
from tasks.kinds import stored
from tasks.kinds.causal_lm import checking, files
from tasks.measure import guard
from tasks.records.artifact import Artifact, Check
from tasks.records.speed import Benchmark
from tasks.reference import reference
from tasks.run.workspace import Workspace
from tests import factories


def check(**changes):
    fields = {
        "distance": 0.01, "distance_limit": 0.2, "agreement": 0.97, "units": 192, "text": "The capital is Paris.",
        "tensor_share": {"u8": 0.99, "f32": 0.01}, "precision_found": "u8 99%",
    }  # fmt: skip
    return Check.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"distance": 0.3}, "disagrees with the reference"),
        ({"distance": float("nan")}, "disagrees with the reference"),
        ({"tensor_share": {"f32": 1.0}}, "claims int8, but only 0% of its weights"),
        ({"tensor_share": {"f32": 0.6, "u8": 0.4}}, "claims int8, but only 40%"),
        ({"text": ""}, "does not produce text"),
        ({"text": "the the the the the"}, "does not produce text"),
    ],
)
def test_what_the_sanity_check_catches(changes, words):
    found = checking.problem(check(**changes), "int8")
    assert words in found
    assert bool(found) == bool(words)


@pytest.mark.parametrize(
    ("share", "claimed", "fine"),
    [
        ({"Q5_0": 0.58, "Q8_0": 0.22, "Q4_K": 0.20}, "int4", True),  # k-quants that fell back are still few bits
        ({"Q8_0": 0.9, "F32": 0.1}, "int4", False),
        ({"Q4_K": 0.9, "F32": 0.1}, "int8", False),
        ({"F16": 0.99, "F32": 0.01}, "fp16", True),
        ({"F32": 1.0}, "bf16", False),
        ({"U32/4bit": 0.9, "F16": 0.1}, "int4", True),
        ({"a type nobody knows": 1.0}, "int4", False),
    ],
)
def test_precision_is_told_by_the_types_inside(share, claimed, fine):
    assert (stored.precision_problem(share, claimed) == "") == fine


def test_shares_count_weights_not_bytes():
    assert stored.weight_share({"f32": 400, "u4": 50}) == {"f32": 0.5, "u4": 0.5}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, tiny_model):
    """A project folder with a fetched tiny model, data and reference."""
    root = tmp_path_factory.mktemp("project")
    patch = pytest.MonkeyPatch()
    patch.chdir(root)
    shutil.copytree(tiny_model, root / Workspace().model)
    params = factories.params(
        data={"evaluation_rows": 3, "calibration_rows": 4}, convert={"probe_tokens": 48},
        benchmark={"sessions": 1, "more_sessions": 0, "repeats": 2, "new_tokens": 8, "max_others_cores": 64.0},
    )  # fmt: skip
    factories.fetched(Workspace())
    data(params, Workspace().model, Workspace().data)
    patch.setenv("PYTHONPATH", str(factories.__file__).rsplit("/", 2)[0])
    reference(Workspace(), params)
    yield root, params
    patch.undo()


def entry(variant="gguf-f16", **changes):
    return factories.plan_entry(variant, **changes)


def test_a_good_artifact_is_recorded_with_its_files_and_types(prepared):
    _, params = prepared
    made = convert(Workspace(), entry(), params)
    assert (made.status, made.reason) == ("ok", "made and checked")
    assert made.files == ("model.gguf",)
    assert made.check is not None
    assert made.check.distance < 0.05
    assert made.check.tensor_share["F16"] > 0.9
    assert made == Artifact.read(Workspace().artifact_record("gguf-f16"))


def test_a_variant_made_from_another_uses_its_file(prepared):
    _, params = prepared
    recipe = factories.recipe("gguf-q8_0", method="q8_0")
    made = convert(Workspace(), entry("gguf-q8_0", source="variants/gguf-f16", recipe=recipe), params)
    assert made.status == "ok"
    assert made.check is not None
    assert made.check.tensor_share["Q8_0"] > 0.9


def test_quality_of_the_reference_against_itself(prepared):
    from tasks.kinds.evaluating import evaluate

    _, params = prepared
    convert(Workspace(), entry("torch-fp32"), params)
    found = evaluate(Workspace(), entry("torch-fp32"), params, ())
    assert (found.status, found.figures["top_agreement"].value) == ("ok", 1.0)
    assert found.figures["perplexity_ratio"].value == pytest.approx(1.0, abs=1e-5)
    assert found.figures["mean_kl"].value == pytest.approx(0.0, abs=1e-4)
    assert found.counts["predictions"] == sum(
        len(row) for row in [np.load((Workspace().reference / files.LOGPROBS), mmap_mode="r")]
    )


def test_a_slow_runtime_is_scored_on_fewer_rows_and_says_so(prepared):
    from tasks.kinds.evaluating import evaluate

    _, params = prepared
    params = params.model_copy(
        update={"evaluate": params.evaluate.model_copy(update={"slow_rows": 2, "slow_tokens": 5})}
    )
    mlx = entry(
        "mlx",
        recipe=factories.recipe(backend="mlx", precision="fp16"),
        speed_on_device=factories.no("no Metal"),
        slow_here=True,
    )
    assert convert(Workspace(), mlx, params).status == "ok"
    found = evaluate(Workspace(), mlx, params, ())
    assert found.status == "ok", found.reason
    assert (found.counts["rows"], found.counts["predictions"], found.subset) == (2, 8, True)
    assert found.figures["perplexity_ratio"].value == pytest.approx(1.0, abs=0.02)


def test_speed_and_memory_of_a_variant(prepared, monkeypatch):
    from tasks.benchmark import benchmark

    root, params = prepared
    monkeypatch.setattr(guard, "DEVICE_LOCK", root / "lock")  # how fast it is, is no matter of this test
    entries = {name: entry(name) for name in ("torch-fp32", "gguf-f16")}
    Workspace().hardware.write_text("{}")
    for name, one in entries.items():
        convert(Workspace(), one, params)
        one.write(Workspace().plan(name))
    chosen = {name: variant for name, variant in params.variants.items() if name in entries}
    lines = benchmark(Workspace(), params.model_copy(update={"variants": chosen}))
    assert [line.split(":")[0] for line in lines] == list(entries)
    found = Benchmark.read(Workspace().benchmark_record("gguf-f16"))
    assert found.status == "ok", found.reason
    assert (found.blocks, found.phases["decode_tokens_per_s"].n, found.phases["time_to_first_token_ms"].n) == (2, 2, 4)
    assert found.paired["decode_tokens_per_s"].value > 0
    assert 0 < found.values["idle_rss_mb"] < found.values["peak_rss_mb"]
    assert found.runtime["threads"] == str(found.threads)


def test_speed_of_another_device_is_not_measured_here(prepared):
    from tasks.measure.results import without

    elsewhere = entry(speed_on_device=factories.no("not measured on this device: the target is a phone"))
    found = without(elsewhere, factories.artifact("gguf-f16"))
    assert found.status == "ok"
    assert found.phases == {}
    assert "phone" in found.speed.reason


@pytest.mark.parametrize(
    ("changes", "limits", "status", "words"),
    [
        ({"action": "skip", "reason": "not in the quick profile"}, {}, "skipped", "not in the quick profile"),
        (
            {"recipe": factories.recipe(backend="gguf", precision="int4", method="q9_9")},
            {},
            "failed",
            "no quantization 'q9_9'",
        ),
        ({"recipe": factories.recipe(backend="gguf", precision="int4", method="q8_0")}, {}, "failed", "claims int4"),
        ({}, {"memory_mb": 60.0}, "failed", "memory: needed"),
        ({}, {"timeout_s": 0.2}, "failed", "timeout: took longer"),
    ],
)
def test_what_goes_wrong_is_recorded(prepared, changes, limits, status, words):
    _, params = prepared
    if limits:
        tight = params.convert.limits.model_copy(update=limits)
        params = params.model_copy(update={"convert": params.convert.model_copy(update={"limits": tight})})
    made = convert(Workspace(), entry("gguf-f16", **changes), params)
    assert made.status == status
    assert words in made.reason
    assert made.command == "dvc repro --single-item --force convert@gguf-f16"
    assert sorted(p.name for p in Workspace().artifact("gguf-f16").iterdir()) == ["artifact.json", "reproduce.sh"]


def test_a_variant_whose_source_failed_is_skipped_with_the_reason(prepared):
    _, params = prepared
    factories.artifact("gguf-base", status="failed", reason="no memory").write(Workspace().artifact_record("gguf-base"))
    made = convert(Workspace(), entry("gguf-q8_0", source="variants/gguf-base"), params)
    assert made.status == "skipped"
    assert "made from gguf-base, which was failed: no memory" in made.reason


def test_no_room_on_the_disk_is_refused_before_starting(prepared, monkeypatch):
    _, params = prepared
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(ResourceError, match="free some room"):
        convert(Workspace(), entry().model_copy(update={"variant": "no-room"}), params)
    assert not Workspace().artifact("no-room").exists()


def test_an_evaluation_of_nothing_carries_the_conversions_reason(prepared):
    from tasks.kinds.evaluating import evaluate

    _, params = prepared
    broken = factories.artifact("gguf-f16", status="failed", reason="crash: of some kind")
    broken.write(Workspace().artifact_record("gguf-f16"))
    found = evaluate(Workspace(), entry(), params, ())
    assert (found.status, found.reason) == ("failed", "crash: of some kind")
