"""Text encoders: how they pool, what they find, every runtime's vectors beside PyTorch's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.backends.base import Work
from tasks.backends.table import arrays, backend
from tasks.errors import DataError, ModelError, UnsupportedError
from tasks.kinds.arrays.comparing import cosine
from tasks.kinds.table import recognised
from tasks.kinds.text_encoder import checkpoint, expanding, predicting, scoring
from tasks.kinds.text_encoder.words import VECTOR, rows
from tasks.params.pipeline import Fetch
from tests.factories import recipe

TEXTS = [
    "a red apple", "the stock market fell by three percent today, after banks reported losses", "two dogs run",
    "how many apples are left?", "", "the weather in Paris is fine",
]  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers with random weights and MiniLM's tokenizer, pooled by the mean."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("encoder")
    config = BertConfig(
        vocab_size=30522, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=128, initializer_range=0.3,
    )  # fmt: skip
    BertModel(config).save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "modules.json"):
        shutil.copyfile(checkpoint.sample() / name, out / name)
    shutil.copytree(checkpoint.sample() / "1_Pooling", out / "1_Pooling")
    (out / "sentence_bert_config.json").write_text('{"max_seq_length": 64, "do_lower_case": false}')
    return out


@pytest.fixture(scope="module")
def model(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("expanded")
    expanding.expand(Fetch(model=str(tiny)), out)
    return out


def plain(model: Path) -> np.ndarray:
    session = arrays("onnx").arrays(model, 2)
    given = rows(model, TEXTS, 64)
    return session.run(given.take(range(len(TEXTS))))[VECTOR]


def test_a_folder_of_an_encoder_is_recognised(tiny: Path, tiny_model: Path) -> None:
    assert recognised(str(tiny)) == "text-encoder"
    assert recognised("minilm") == "text-encoder"
    assert recognised(str(tiny_model)) == "causal-lm"


def test_a_vector_is_the_mean_of_the_tokens_and_of_length_one(tiny: Path, model: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, torch_model = AutoTokenizer.from_pretrained(tiny), AutoModel.from_pretrained(tiny).eval()
    wanted = []
    for text in TEXTS:  # one by one, so that nothing is filled up
        with torch.no_grad():
            wanted.append(torch_model(**tokenizer(text, return_tensors="pt"))[0][0].mean(0).numpy())
    found = plain(model)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    assert cosine(found, np.stack(wanted)) == pytest.approx(np.ones(len(TEXTS)), abs=1e-4)


@pytest.mark.parametrize(
    ("name", "precision", "method", "least"),
    [
        ("onnx", "fp32", "default", 0.99999),
        ("onnx", "int8", "dynamic", 0.97),
        ("onnx", "int8", "static", 0.9),
        ("onnx", "int8", "w8a8-unsigned", 0.98),
        ("openvino", "fp32", "default", 0.999),
        ("openvino", "int8", "weights", 0.98),
        ("openvino", "int8", "static", 0.9),
        ("gguf", "fp16", "default", 0.995),
        ("gguf", "int8", "q8_0", 0.98),
    ],
)
def test_every_runtime_gives_the_same_vectors(
    model: Path, tmp_path: Path, name: str, precision: str, method: str, least: float
) -> None:
    given = rows(model, TEXTS, 64)
    work = Work(
        model=model, calibration=(), threads=2, family="arrays", calibration_arrays=tuple(given.batches(1))
    )  # fmt: skip
    asked = recipe(backend=name, precision=precision, method=method, group_size=0, symmetric=True)
    backend(name).convert(work, asked, tmp_path)
    session = arrays(name).arrays(tmp_path, 2)
    together = session.run(given.take(range(len(TEXTS))))[VECTOR]
    assert cosine(together, plain(model)).min() > least
    alone = session.run(given.take([1]))[VECTOR]
    assert cosine(alone, together[1:2])[0] > 0.98
    if precision == "int8" and name == "onnx":
        assert (
            sum(file.stat().st_size for file in tmp_path.glob("model*")) < 0.4 * (model / "model.onnx").stat().st_size
        )


def test_vectors_come_in_the_order_of_the_texts(model: Path) -> None:
    embedder = predicting.Embedder(
        arrays("onnx").arrays(model, 2), model, checkpoint.Encoder.read(model / checkpoint.FILE)
    )
    assert cosine(embedder.embed(TEXTS), plain(model)) == pytest.approx(np.ones(len(TEXTS)), abs=1e-4)
    for bad in ([], [""], [None], [3]):
        with pytest.raises(DataError):
            embedder.predict(bad, {})


def spoil(folder: Path, name: str, content: Any) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", None, "no tokenizer.json"),
        ("modules.json", [{"type": "x.Transformer", "path": ""}], "names no pooling"),
        ("modules.json", [{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2"}], "module 'Dense'"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pools by pooling_mode_max_tokens"),
        ("1_Pooling/config.json", {}, "pools by nothing"),
        ("model.safetensors", None, "no weights"),
    ],
)
def test_what_cannot_become_one_vector_is_refused(
    tiny: Path, tmp_path: Path, name: str, content: Any, said: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    spoil(folder, name, content)
    with pytest.raises(ModelError, match=said):
        expanding.refuse(Fetch(model=str(folder)))


def test_a_classifier_of_arrays_is_no_model_of_llama_cpp(tmp_path: Path) -> None:
    work = Work(model=tmp_path, calibration=(), threads=2, family="arrays")
    with pytest.raises(UnsupportedError, match="text encoders"):
        backend("gguf").convert(work, recipe(backend="gguf", precision="fp16", method="default"), tmp_path)


def test_a_sentence_finds_its_text_among_so_many() -> None:
    likeness = np.array([[0.9, 0.1, 0.2], [0.8, 0.5, 0.1], [0.7, 0.6, 0.1]])
    assert scoring.recalled(likeness, 1).tolist() == [True, False, False]
    assert scoring.recalled(likeness, 2).tolist() == [True, True, False]


def test_neighbours_and_order_of_the_same_vectors_are_the_same() -> None:
    vectors = scoring.unit(np.random.default_rng(0).normal(size=(30, 8)))
    assert scoring.shared(vectors, vectors, 10).min() == 1
    likeness = vectors @ vectors.T
    assert scoring.rank_correlation(likeness, 2 * likeness + 1) == pytest.approx(np.ones(30))
    assert scoring.rank_correlation(likeness, -likeness) == pytest.approx(-np.ones(30))
