"""Models that read pictures or sound: assessed and ranked, and what is said of OpenVINO tried on tiny random ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks import advise
from tasks.params.pipeline import Assess
from tasks.planning.matrix import architectures
from tests import factories as make


def llava(folder: Path) -> Any:
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14,
        projection_dim=32,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=200, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2,
    )  # fmt: skip
    whole = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=199, vision_feature_layer=-2,
        vision_feature_select_strategy="default", pad_token_id=0,
    )  # fmt: skip
    made = LlavaForConditionalGeneration(whole).eval()
    made.save_pretrained(folder)
    return made


def whisper(folder: Path) -> Any:
    import torch
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    torch.manual_seed(0)
    sizes = WhisperConfig(
        vocab_size=200, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, num_mel_bins=16, max_target_positions=32,
        pad_token_id=1, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3, suppress_tokens=None,
        begin_suppress_tokens=None,
    )  # fmt: skip
    made = WhisperForConditionalGeneration(sizes).eval()
    made.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16).save_pretrained(folder)
    return made


def config(folder: Path, **fields: Any) -> Path:
    from safetensors.numpy import save_file

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(fields))
    save_file({"encoder.weight": np.zeros((8, 8), np.float32)}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("fields", "modality", "able"),
    [
        ({"architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper"}, "speech-to-text",
         {"openvino", "olive"}),
        ({"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "vision_config": {}},
         "vision-language", {"openvino", "olive"}),
        ({"architectures": ["SmolVLMForConditionalGeneration"], "model_type": "smolvlm", "vision_config": {},
          "text_config": {"model_type": "llama"}}, "vision-language", {"openvino"}),
        ({"architectures": ["Wav2Vec2ForSequenceClassification"], "model_type": "wav2vec2", "conv_dim": [8]},
         "audio-classifier", {"openvino", "olive"}),
        ({"architectures": ["NewVLForConditionalGeneration"], "model_type": "new_vl", "vision_config": {}},
         "vision-language", set()),
    ],
)  # fmt: skip
def test_each_is_ranked_with_what_it_needs(
    tmp_path: Path, fields: dict[str, Any], modality: str, able: set[str]
) -> None:
    model, selection = advise.advise(config(tmp_path / "m", **fields), make.hardware(), Assess())
    assert model.modality == modality
    assert {choice.framework for choice in selection.ranking if choice.support.ok} == able
    assert all(choice.support.reason for choice in selection.ranking)
    said = advise.in_words(model, selection)
    assert "not measured" in said
    assert ("carries" in said) == (not able)


def test_pictures_lead_to_the_branch_of_many_modalities(tmp_path: Path) -> None:
    folder = config(
        tmp_path / "m", architectures=["LlavaForConditionalGeneration"], model_type="llava", vision_config={}
    )
    phone = make.hardware(device="android-phone", family="arm-mobile", origin="profile")
    _, selection = advise.advise(folder, phone, Assess())
    assert selection.path[-1].startswith("Model type? multimodal")


def test_a_kind_that_is_made_here_is_sent_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.tasks.kinds.causal_lm.test_describing import LLAMA, LLAMA_SHAPES, checkpoint

    checkpoint(tmp_path, LLAMA, LLAMA_SHAPES)
    assert advise.main([str(tmp_path)]) == 0
    assert "make run MODEL=" in " ".join(capsys.readouterr().out.split())


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert advise.main([str(tmp_path)]) == 2
    assert "holds no config.json" in capsys.readouterr().err


@pytest.mark.model
def test_the_tables_are_those_of_the_installed_packages() -> None:
    import inspect

    import onnxruntime_genai.models.builder as builder
    import optimum.exporters.openvino.model_configs  # noqa: F401 - registers what it exports
    from optimum.exporters.tasks import TasksManager

    tasks = {
        "vision-language": "image-text-to-text",
        "speech-to-text": "automatic-speech-recognition-with-past",
        "audio-classifier": "audio-classification",
    }
    for modality, task in tasks.items():
        known = set(architectures()["openvino"][modality].types)  # type: ignore[index]
        assert known <= set(TasksManager.get_supported_model_type_for_task(task, exporter="openvino"))
    source = inspect.getsource(builder)
    for modality in ("vision-language", "speech-to-text"):
        for name in architectures()["olive"][modality].known:  # type: ignore[index]
            assert f'"{name}"' in source


@pytest.mark.model
def test_a_tiny_model_of_pictures_and_text_runs_in_openvino_as_in_pytorch(tmp_path: Path) -> None:
    import torch
    from optimum.intel import OVModelForVisualCausalLM

    model, picture = llava(tmp_path), torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    said, _ = advise.advise(tmp_path, make.hardware(), Assess())
    assert (said.modality, said.model_type, said.compatibility["openvino"].ok) == ("vision-language", "llava", True)
    parts = torch.tensor([[5, 199, 199, 199, 199, 7]])  # a token for each part of the picture
    with torch.no_grad():
        wanted = model(input_ids=parts, pixel_values=picture, attention_mask=torch.ones_like(parts)).logits.numpy()
    runtime = OVModelForVisualCausalLM.from_pretrained(tmp_path, export=True)
    one = torch.tensor([[5, 199, 7]])
    found = runtime(
        input_ids=one, pixel_values=picture, attention_mask=torch.ones_like(one), position_ids=torch.arange(3)[None]
    ).logits
    assert np.abs(np.asarray(found) - wanted).max() < 0.05 * wanted.std() + 0.01


@pytest.mark.model
def test_a_tiny_model_of_speech_runs_in_openvino_as_in_pytorch(tmp_path: Path) -> None:
    import torch
    from optimum.intel import OVModelForSpeechSeq2Seq

    model, sound = whisper(tmp_path), torch.randn(1, 16, 3000, generator=torch.Generator().manual_seed(1))
    said, _ = advise.advise(tmp_path, make.hardware(), Assess())
    assert (said.modality, said.compatibility["openvino"].ok) == ("speech-to-text", True)
    words = torch.tensor([[3, 5, 7]])
    with torch.no_grad():
        wanted = model(input_features=sound, decoder_input_ids=words).logits.numpy()
    found = OVModelForSpeechSeq2Seq.from_pretrained(tmp_path, export=True)(
        input_features=sound, decoder_input_ids=words
    ).logits
    assert np.abs(np.asarray(found) - wanted).max() < 0.05 * wanted.std() + 0.01
