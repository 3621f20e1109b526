"""One server on a tiny package, which the tests of serving share."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from tasks.backends.table import tokens
from tasks.kinds.causal_lm.chat import Text
from tests.serving import Running, package, server
from tests.tasks.serve.asking import PROMPT


@pytest.fixture(scope="package")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package(tmp_path_factory.mktemp("made") / "package", tiny_model)


@pytest.fixture(scope="package")
def running(made: Path, tmp_path_factory: pytest.TempPathFactory):
    with server(tmp_path_factory.mktemp("server"), made, slots=4) as one:
        yield one


@pytest.fixture(scope="package")
def client(running: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.base}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="package")
def alone(made: Path) -> tuple[Text, list[int]]:
    """The tokenizer, and what the session that was measured makes of the prompt."""
    text = Text(made / "tokenizer", True)
    session = tokens("gguf").speaker(made / "model", 2)
    return text, session.generate(text.encode(PROMPT), 12)
