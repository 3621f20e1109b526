"""The package's tokenizer and chat template: the same as transformers makes of them, without it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.errors import DataError, ModelError
from tasks.models.text import Text

TALKS = (
    [{"role": "user", "content": "What is 2 + 2?"}],
    [{"role": "system", "content": "Be short."}, {"role": "user", "content": "  né 日本語 \n<|im_end|>"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": ""}],
)
TEXTS = ("a b", "<|im_start|>  né 日本語\t\n", "", "🙂 ends in 🙂")


def test_the_same_as_transformers(tokenizer_dir: Path) -> None:
    from transformers import AutoTokenizer

    ours, theirs = Text(tokenizer_dir, True), AutoTokenizer.from_pretrained(tokenizer_dir)
    for talk in TALKS:
        told = theirs.apply_chat_template(talk, add_generation_prompt=True, tokenize=False)
        assert ours.converse(talk) == theirs(told, add_special_tokens=False)["input_ids"]
    for text in TEXTS:
        assert ours.encode(text) == theirs(text)["input_ids"]
        assert ours.decode(ours.encode(text)) == theirs.decode(ours.encode(text), skip_special_tokens=True)
    assert (ours.vocabulary, ours.ends) == (len(theirs), {theirs.eos_token_id})
    assert ours.token(theirs.eos_token_id) == theirs.eos_token


def test_no_framework_is_imported(tokenizer_dir: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from tasks.models.text import Text
Text(Path({str(tokenizer_dir)!r}), True).converse([{{"role": "user", "content": "x"}}])
print([name for name in ("torch", "transformers") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def folder(tmp_path: Path, source: Path, template: str | None, **config: object) -> Path:
    shutil.copy2(source / "tokenizer.json", tmp_path / "tokenizer.json")
    if template is not None:
        (tmp_path / "chat_template.jinja").write_text(template)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages %}{{ m.content }}{% endfor %}{{ eos_token }}", "hi<|im_end|>"),
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}x{% endfor %}none", "none"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "hi"),
        ("{{ messages | tojson }}", '[{"role": "user", "content": "hi"}]'),
    ],
)
def test_what_templates_use(tmp_path: Path, tokenizer_dir: Path, template: str, said: str) -> None:
    text = Text(folder(tmp_path, tokenizer_dir, template, eos_token={"content": "<|im_end|>"}), True)
    assert text.converse([{"role": "user", "content": "hi"}]) == text.encode(said)


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('no') }}", "{{ messages.append(1) }}", "{{ messages[9].x.y }}"]
)
def test_a_template_that_refuses_or_reaches_out_is_bad_input(
    tmp_path: Path, tokenizer_dir: Path, template: str
) -> None:
    with pytest.raises(DataError, match="refuses these messages"):
        Text(folder(tmp_path, tokenizer_dir, template), True).converse([{"role": "user", "content": "hi"}])


def test_what_cannot_be_read_is_named(tmp_path: Path, tokenizer_dir: Path) -> None:
    with pytest.raises(ModelError, match="holds no tokenizer"):
        Text(tmp_path, True)
    folder(tmp_path, tokenizer_dir, "{% for %}")
    with pytest.raises(ModelError, match="cannot be read"):
        Text(tmp_path, True).converse([])
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        Text(tmp_path, True).converse([])
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ModelError, match="is not JSON"):
        Text(tmp_path, True)
