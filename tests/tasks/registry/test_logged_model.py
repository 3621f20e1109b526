"""The model that MLflow gives back, in a process that has never seen this checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.registry import logged_model, store, versions
from tasks.track import track
from tests import factories as make
from tests.tracked import packaged, project


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)


def tiny_checkpoint(folder: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """A random Llama of a few thousand weights and a tokenizer for it: files of a model and of a tokenizer folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(3)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate([*letters, "<end>"])}, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(folder / "tokenizer")
    shape = {"vocab_size": 257, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = LlamaConfig(**shape, num_attention_heads=2, num_key_value_heads=1, eos_token_id=256)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    read = {part: {f.name: f.read_bytes() for f in (folder / part).iterdir()} for part in ("model", "tokenizer")}
    return read["model"], read["tokenizer"]


@pytest.mark.slow
def test_the_registered_champion_answers_from_its_own_package(tmp_path: Path) -> None:
    files, tokenizer = tiny_checkpoint(tmp_path / "made")
    results = packaged(files=files, tokenizer=tokenizer, backend="torch")
    tracked = track(results)
    promoted = versions.promote(tracked.model_name, tracked.version, results.report, "ann", "passed")
    assert promoted.changed
    code = """
import json, sys, mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/edgewright-sample@champion")
frame = pandas.DataFrame({"prompt": ["Hello", "two plus two"]})
answers = [model.predict(frame, params={"max_new_tokens": 5}), model.predict([{"prompt": "Hello"}])]
import tasks
print(json.dumps([answers, tasks.__file__ or list(tasks.__path__)[0]]))
"""
    elsewhere = tmp_path / "elsewhere"  # no checkout of this project in sight: the model brings its code
    elsewhere.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, "-c", code, store.tracking_uri()],
        env=environment,
        cwd=elsewhere,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    (several, one), home = json.loads(run.stdout.strip().splitlines()[-1])
    assert "mlruns/artifacts" in home
    assert several == [expected(tmp_path, "Hello", 5), expected(tmp_path, "two plus two", 5)]
    assert one == [expected(tmp_path, "Hello", 64)]


def expected(folder: Path, prompt: str, new_tokens: int) -> str:
    """The same answer by transformers' own generation."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "made" / "tokenizer")
    model = AutoModelForCausalLM.from_pretrained(folder / "made" / "model")
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    made = model.generate(ids, max_new_tokens=new_tokens, do_sample=False, pad_token_id=256)[0][ids.shape[1] :]
    return tokenizer.decode(made, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("openvino", {"openvino==1", "openvino-genai==2", "openvino-tokenizers", "mlflow==3"}),
        ("gguf", {"llama-cpp-python==4", "mlflow==3"}),
        ("mlx", {"mlx==5 ; sys_platform == 'linux'", "mlx-cpu==5 ; sys_platform == 'linux'", "mlx-lm", "mlflow==3"}),
    ],
)
def test_requirements_come_from_the_lock(tmp_path: Path, backend: Any, expected: set[str]) -> None:
    lock = tmp_path / "lock"
    mlx = "mlx==5 ; sys_platform == 'linux'\nmlx-cpu==5 ; sys_platform == 'linux'\n"
    lock.write_text(f"mlflow==3\nmlflow-skinny==3\nopenvino==1\nopenvino-genai==2\nllama-cpp-python==4\n{mlx}")
    found = set(logged_model.requirements(make.contents(backend), lock))
    assert found - {"numpy", "pandas", "pydantic", "pyyaml", "transformers", "tokenizers", "jinja2"} == expected
