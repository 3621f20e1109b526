"""An answer ends where the text does, and where the turn does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tasks.kinds.causal_lm.chat import Text
from tasks.kinds.causal_lm.incoming.ends import write_ends


@pytest.fixture
def model(tmp_path: Path, tokenizer_dir: Path) -> Path:
    """A tokenizer whose end of text is not the end of a turn."""
    folder = shutil.copytree(tokenizer_dir, tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": "<|endoftext|>"}))
    return folder


def test_the_end_of_a_turn_is_read_from_the_template(model: Path) -> None:
    assert Text(model, True).ends == {0}
    (model / "generation_config.json").write_text('{"bos_token_id": 1, "eos_token_id": 0}')
    assert write_ends(model, more=(4,)) == (0, 2, 4)
    assert json.loads((model / "generation_config.json").read_text()) == {"bos_token_id": 1, "eos_token_id": [0, 2, 4]}
    assert Text(model, True).ends == {0, 2, 4}


@pytest.mark.parametrize("template", ["{{ raise_exception('no') }}", "{{ messages[0].content }}", None])
def test_a_template_that_tells_no_end_adds_none(model: Path, template: str | None) -> None:
    (model / "chat_template.jinja").unlink()
    if template is not None:
        (model / "chat_template.jinja").write_text(template)
    assert write_ends(model) == (0,)
