"""A backend in one file outside of the product goes through plan, conversion, session and package by its name alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tasks import code
from tasks.assess import write_plan
from tasks.backends.base import Work
from tasks.backends.table import arrays, backend, tokens
from tasks.errors import ConfigError, UnsupportedError
from tasks.packaging import how_to_run
from tasks.planning.plan import backends_of, plan
from tasks.planning.selection import ranked_backends, select
from tasks.records.plan import PlanEntry
from tests import ROOT, factories

TOY = "tests.tasks.toy_backend"
WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3) / 8
BIAS = np.array([1.0, 2.0, 3.0], dtype=np.float32)

if TYPE_CHECKING:
    from tasks.backends.base import ArraysBackend
    from tests.tasks import toy_backend

    _TOY: ArraysBackend = toy_backend


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "linear"
    folder.mkdir()
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["rows", "w", "b"], ["classes"])],
        "linear",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(BIAS, "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "model.onnx")
    return folder


def planned(**variant: str) -> dict[str, PlanEntry]:
    """The plan for a model of arrays, which no table of architectures knows: its backends are asked."""
    params = factories.params(variants=factories.VARIANTS | {"toy": {"backend": TOY, "precision": "fp16"} | variant})
    hardware, model = factories.hardware(), factories.profile(family="arrays", compatibility={})
    selection = select(hardware, model, params.assess, ranked_backends(backends_of(params)))
    assert sorted(choice.framework for choice in selection.ranking) == ["llama.cpp", "mlx", "olive", "openvino", "toy"]
    return {entry.variant: entry for entry in plan(params, hardware, model, selection)}


def test_the_plan_makes_it(tmp_path):
    entry = planned()["toy"]
    assert (entry.action, entry.recipe.backend, entry.slow_here) == ("run", TOY, False), entry.reason
    assert "toy ranks" in entry.reason
    assert entry.recipe.reasons[0] == "toy is made as params.yaml asks: default"
    assert entry.speed_on_device.ok
    write_plan([entry], tmp_path)
    assert PlanEntry.read(tmp_path / "toy.json") == entry


def test_it_converts_runs_and_says_how_it_is_run(model, tmp_path):
    recipe, folder = planned()["toy"].recipe, tmp_path / "package" / "model"
    folder.mkdir(parents=True)
    backend(TOY).convert(Work(model=model, calibration=(), threads=1, family="arrays"), recipe, folder)
    assert backend(TOY).tensor_bytes(folder) == {"float16": 2 * (WEIGHT.size + BIAS.size)}
    assert all((folder / name).is_file() for name in how_to_run.needed_files(TOY, "arrays"))

    session = arrays(TOY).arrays(folder, 1)
    rows = np.eye(4, dtype=np.float32)
    assert session.inputs["rows"].shape == (None, 4)
    np.testing.assert_allclose(session.run({"rows": rows})["classes"], WEIGHT + BIAS)
    assert {"execution", "threads"} <= set(session.runtime())
    session.close()

    lines = "\n".join(how_to_run.lines(TOY, False, {}, "arrays"))
    told = subprocess.run([sys.executable, "-c", lines], cwd=folder.parent, capture_output=True, text=True, check=True)
    assert np.array(told.stdout.strip("[]\n").split(), dtype=float) == pytest.approx(WEIGHT.sum(axis=0) + BIAS)
    assert how_to_run.packages(TOY, "arrays") == ("numpy", "safetensors")
    assert set(backend(TOY).versions()) == {"numpy", "onnx", "safetensors"}


def test_what_it_runs_is_listed_so_that_a_change_to_it_redoes_its_variants():
    listed = code.listings(ROOT, [TOY])
    own = {line.split("  ")[1] for line in listed[Path("backends") / f"{TOY}.txt"].splitlines()}
    assert {"tests/tasks/toy_backend.py", "tasks/backends/packages.py"} <= own
    assert "tasks/backends/mlx/__init__.py" not in own
    assert not any("toy_backend" in text for place, text in listed.items() if place.stem != TOY)


def test_it_runs_no_language_models():
    with pytest.raises(UnsupportedError, match="runs no models of family 'tokens'; allowed: arrays"):
        tokens(TOY)


@pytest.mark.parametrize(("name", "words"), [
    ("opnvino", r"variants\.toy: backend 'opnvino' is not known; did you mean 'openvino'\? allowed: torch, "),
    ("zzz", r"variants\.toy: backend 'zzz' is not known; allowed: torch, .*or a module of yours"),
    ("tests.tasks.no_such_thing", r"variants\.toy: backend 'tests\.tasks\.no_such_thing': there is no such module"),
    ("no_such_package.at.all", "there is no such module"),
    ("tests.tasks", r"tests\.tasks is no backend: it lacks FAMILIES, FRAMEWORK, .*tasks/backends/base\.py"),
])  # fmt: skip
def test_a_name_that_is_no_backend_is_refused_in_words(name, words):
    with pytest.raises(ConfigError, match=words):
        planned(backend=name)
