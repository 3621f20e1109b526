"""A prompt and a request that several tests of serving send."""

from __future__ import annotations

import openai

from tests.serving import NAME

PROMPT = "Count: one, two, three,"
LONG = {"prompt": PROMPT, "max_tokens": 200, "temperature": 0, "ignore_eos": True}


def ask(client: openai.OpenAI, **more):
    return client.completions.create(model=NAME, **{"prompt": PROMPT, "max_tokens": 12, "temperature": 0} | more)
