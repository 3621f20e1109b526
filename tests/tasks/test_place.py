"""The placement command: what was made is placed in a process of its own; a rule about fallbacks is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.errors import EXIT_BAD_INPUT, EXIT_FAIL, EXIT_OK
from tasks.place import main, too_little
from tasks.records.placement import Fallback, OnDevice, Placement
from tasks.run.workspace import Workspace
from tests import ROOT
from tests.factories import artifact, profile, recipe

SPACE = Workspace()
FELL = Fallback(asked="gpu", used="CPU", kind="library", reason="none")
LACKS = Fallback(asked="npu", used="CPU", kind="operator", reason="it lacks Det")


@pytest.fixture
def _made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with one converted variant: a product in ONNX."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    files = SPACE.artifact_files("onnx-int8")
    files.mkdir(parents=True)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="p")], "g", ports[:1], ports[1:], [weight]
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), files / "model.onnx"
    )
    artifact("onnx-int8", recipe=recipe(backend="onnx")).write(SPACE.artifact_record("onnx-int8"))
    profile().write(SPACE.profile)


@pytest.mark.usefixtures("_made")
def test_a_variant_is_placed_and_its_record_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    stale = SPACE.placement("gone")
    stale.parent.mkdir()
    stale.write_text("{}")
    assert main(["--record"]) == EXIT_OK
    found = Placement.read(SPACE.placement("onnx-int8"))
    assert (found.resolved, found.fallbacks) == ("CPUExecutionProvider", ())
    assert "onnx-int8: CPUExecutionProvider" in capsys.readouterr().out
    assert not stale.exists()


@pytest.mark.usefixtures("_made")
def test_what_is_asked_by_hand_leaves_the_records_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--variant", "onnx-int8", "--device", "cpu"]) == EXIT_OK
    assert not SPACE.placement("onnx-int8").exists()
    assert "CPUExecutionProvider" in capsys.readouterr().out


@pytest.mark.usefixtures("_made")
def test_one_that_does_not_open_costs_the_others_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    broken = SPACE.artifact_files("onnx-int4")
    broken.mkdir(parents=True)
    (broken / "model.onnx").write_bytes(b"no model")
    artifact("onnx-int4", recipe=recipe(backend="onnx")).write(SPACE.artifact_record("onnx-int4"))
    assert main(["--record"]) == EXIT_OK
    assert SPACE.placement("onnx-int8").exists()
    assert not SPACE.placement("onnx-int4").exists()
    assert "onnx-int4: " in capsys.readouterr().out


@pytest.mark.usefixtures("_made")
def test_the_device_that_tuning_chose_is_the_one_asked_for() -> None:
    SPACE.settings("onnx").parent.mkdir(parents=True)
    SPACE.settings("onnx").write_text('{"device": "NoSuchProvider"}')
    assert main(["--record"]) == EXIT_OK
    found = Placement.read(SPACE.placement("onnx-int8"))
    assert (found.requested, [one.kind for one in found.fallbacks]) == ("NoSuchProvider", ["library"])


@pytest.mark.usefixtures("_made")
@pytest.mark.parametrize(
    ("rule", "code", "words"),
    [("allow", EXIT_OK, ""), ("warn", EXIT_OK, "warning: "), ("refuse", EXIT_FAIL, "refused: ")],
)
def test_a_rule_about_fallbacks_is_kept(capsys: pytest.CaptureFixture[str], rule: str, code: int, words: str) -> None:
    assert main(["--variant", "onnx-int8", "--device", "NoSuchProvider", "--on-fallback", rule]) == code
    said = capsys.readouterr().out
    assert words in said
    assert "library" in said


@pytest.mark.usefixtures("_made")
def test_wrong_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--variant", "nobody"]) == EXIT_BAD_INPUT
    assert main(["--variant", "onnx-int8", "--min-share", "3"]) == EXIT_BAD_INPUT
    assert "a share from 0 to 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("requested", "fell", "shares", "least", "short"),
    [
        ("auto", (), {"CPU": 1.0}, 0.9, False),
        ("gpu", (FELL,), {"CPU": 1.0}, 0.5, True),
        ("gpu", (FELL,), {"CPU": 1.0}, 0.0, False),
        ("npu", (LACKS,), {"NPU": 0.95, "CPU": 0.05}, 0.9, False),
        ("npu", (LACKS,), {"NPU": 0.4, "CPU": 0.6}, 0.5, True),
        ("npu", (), {"NPU": None}, 0.1, True),
    ],
)
def test_a_share_of_flops_is_a_gate(
    requested: str, fell: tuple[Fallback, ...], shares: dict[str, float | None], least: float, short: bool
) -> None:
    devices = tuple(OnDevice(device=name, operators=3, flops_share=share) for name, share in shares.items())
    found = Placement(backend="onnx", requested=requested, resolved="NPU", fallbacks=fell, devices=devices)
    assert too_little(found, least) is short
