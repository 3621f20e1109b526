"""What a version must show before it meets anybody: both protocols with their own clients, a short load, and bad input.

Usage: python -m tasks.promotion.staging URL NAME. Prints one JSON object: what was checked and what is wrong. The
router has the checks run by `staged`, in a process of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import string
import sys
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

from tasks.promotion.judge import Judgement
from tasks.serve.load import load
from tasks.serve.load.load import Ask
from tasks.serve.server import API_KEY

TIMEOUT_S = 60.0  # of one request
STAGING_S = 300.0  # of all checks
TOKENS = 8
CALLERS, EACH = 4, 4  # of the load: requests that leave at once, and how often
QUESTION = "What is the capital of France?"


async def staged(base: str, name: str) -> Judgement:
    """Check a server by `tasks.promotion.staging`; a verdict that fails where a check does, or the time is up."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tasks.promotion.staging", base, name,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, said = await asyncio.wait_for(process.communicate(), STAGING_S)
        found: dict[str, str] = json.loads(out.decode().strip().splitlines()[-1])
    except TimeoutError:
        return Judgement("fail", {"staging": "fail"}, (f"the staging checks took longer than {STAGING_S:g} s",))
    except (ValueError, IndexError):
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        return Judgement("fail", {"staging": "fail"}, (f"the staging checks ended early: {''.join(last)}",))
    finally:
        if process.returncode is None:
            process.kill()
    wrong = [f"{what}: {problem}" for what, problem in found.items() if problem]
    if wrong:
        return Judgement("fail", dict.fromkeys(found, "fail"), tuple(wrong))
    return Judgement("pass", dict.fromkeys(found, "pass"), (f"staged: {', '.join(found)}",))


def check(base: str, name: str) -> dict[str, str]:
    """Check the server at `base`; what was checked, each empty when it is well, else what is wrong."""
    key = os.environ.get(API_KEY, "")
    checks: dict[str, Callable[[], str]] = {
        "OpenAI's client": lambda: openai(base, name, key),
        "the Open Inference Protocol's client": lambda: inference_protocol(base, name, key),
        "load": lambda: under_load(base, name, key),
        "bad input": lambda: bad_input(base, name, key),
    }
    found = {}
    for what, one in checks.items():
        try:
            found[what] = one()
        except Exception as problem:  # noqa: BLE001 - whatever a client raises says that the check failed
            found[what] = f"{type(problem).__name__}: {problem}"[:500]
    return found


def openai(base: str, name: str, key: str) -> str:
    """A chat, whole and as a stream, both the same."""
    from openai import OpenAI

    client = OpenAI(base_url=f"{base}/v1", api_key=key or "none", timeout=TIMEOUT_S, max_retries=0)
    if name not in [model.id for model in client.models.list()]:
        return f"/v1/models does not list {name}"
    asked: Any = {"model": name, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
    whole = client.chat.completions.create(**asked, max_tokens=TOKENS)
    parts = client.chat.completions.create(**asked, max_tokens=TOKENS, stream=True)
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    if not whole.usage or not whole.usage.completion_tokens:
        return "an answer without tokens"
    if text != whole.choices[0].message.content:
        return f"as a stream it answers {text!r}, in one piece {whole.choices[0].message.content!r}"
    return ""


def inference_protocol(base: str, name: str, key: str) -> str:
    """A text in, a text out, by NVIDIA's client."""
    from tritonclient.http import InferenceServerClient, InferInput

    headers = {"Authorization": f"Bearer {key}"} if key else None
    client = InferenceServerClient(base.removeprefix("http://"), network_timeout=TIMEOUT_S)
    try:
        if not (client.is_server_ready(headers=headers) and client.is_model_ready(name, headers=headers)):
            return "it is not ready"
        given = InferInput("prompt", [1], "BYTES")
        given.set_data_from_numpy(np.array([QUESTION.encode()], dtype=np.object_))
        found = client.infer(name, [given], headers=headers, parameters={"max_tokens": TOKENS})
        names = [one["name"] for one in found.get_response()["outputs"]]
        return "" if names and found.as_numpy(names[0]).size else "an answer without a text"
    finally:
        client.close()


def under_load(base: str, name: str, key: str) -> str:
    """Some callers at once, some times: all are answered."""
    asks = [Ask(0.5 * turn, f"{QUESTION} ({turn})", TOKENS) for turn in range(EACH) for _ in range(CALLERS)]
    outcomes, _ = asyncio.run(load.run(base, name, asks, key or None))
    failed = [one.error or "empty" for one in outcomes if one.error or not one.tokens]
    return f"{len(failed)} of {len(asks)} requests failed: {failed[0]}" if failed else ""


def bad_input(base: str, name: str, key: str) -> str:
    """Check that what must be refused is, in words, and that the server is ready afterwards."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    dice = random.Random(7)  # noqa: S311 - noise, not a secret
    noise = "".join(dice.choices(string.printable, k=200))
    cases: list[tuple[str, dict[str, Any], set[int]]] = [
        ("/v1/completions", {"content": b"{"}, {400}),
        ("/v1/completions", {"content": noise.encode()}, {400}),
        ("/v1/completions", {"json": {"model": name, "prompt": "x", "max_tokens": 0}}, {400}),
        ("/v1/completions", {"json": {"model": name, "prompt": "x", "temperature": "hot"}}, {400}),
        ("/v1/completions", {"json": {"model": "no-such-model", "prompt": "x"}}, {404}),
        ("/v1/chat/completions", {"json": {"model": name, "messages": []}}, {400}),
        ("/v1/completions", {"content": b"x" * (8 * 2**20)}, {413}),
        (f"/v2/models/{name}/infer", {"json": {"inputs": "none"}}, {400}),
        ("/v1/../../etc/passwd", {"json": {}}, {400, 404, 405}),
    ]
    with httpx.Client(base_url=base, headers=headers, timeout=TIMEOUT_S) as client:
        for path, body, allowed in cases:
            try:
                status = client.post(path, **body).status_code
            except httpx.WriteError:  # refused before all of it was sent
                status = 413
            if status not in allowed:
                return f"{path} with {str(body)[:80]} answers {status}, not {' or '.join(map(str, sorted(allowed)))}"
        if key and httpx.post(f"{base}/v1/completions", json={"prompt": "x"}, timeout=TIMEOUT_S).status_code != 401:
            return "without the API key it answers"
        return "" if client.get("/v2/health/ready").status_code == 200 else "it is not ready after bad input"


if __name__ == "__main__":
    print(json.dumps(check(sys.argv[1], sys.argv[2])))
