"""What a version must show before it meets anybody: both protocols with their own clients, a short load, and bad input.

Usage: python -m tasks.promotion.staging URL NAME FORM. Prints one JSON object: what was checked and what is wrong. The
router has the checks run by `staged`, in a process of their own. FORM is what the model reads: generation (prompts to
write after), texts, pictures or tensors.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import string
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import numpy as np

from tasks.kinds.base import Form
from tasks.promotion.asking import CLASSIFY, EMBEDDINGS, QUESTIONS, likeness, picture, question
from tasks.promotion.judge import Judgement
from tasks.serve.load import load
from tasks.serve.load.load import Ask
from tasks.serve.server import API_KEY

TIMEOUT_S = 60.0  # of one request
STAGING_S = 300.0  # of all checks
TOKENS = 8
CALLERS, EACH = 4, 4  # of the load: requests that leave at once, and how often
QUESTION = QUESTIONS[0]
INFERENCE = "the Open Inference Protocol's client"
Check = Callable[[str, str, str], str]  # base, name of the model, API key -> what is wrong, "" when all is well


async def staged(base: str, name: str, form: Form = "generation") -> Judgement:
    """Check a server by `tasks.promotion.staging`; a verdict that fails where a check does, or the time is up."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tasks.promotion.staging", base, name, form,
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


def check(base: str, name: str, form: Form = "generation") -> dict[str, str]:
    """Check the server at `base`; what was checked, each empty when it is well, else what is wrong."""
    key = os.environ.get(API_KEY, "")
    own: dict[Form, dict[str, Check]] = {
        "generation": {"OpenAI's client": openai, INFERENCE: inference_protocol, "load": under_load},
        "texts": {"OpenAI's client": embeddings, INFERENCE: tensors, "load": questions_at_once(form)},
        "pictures": {"pictures": pictures, INFERENCE: tensors, "load": questions_at_once(form)},
        "tensors": {INFERENCE: tensors},
    }
    checks = {what: partial(one, base, name, key) for what, one in own[form].items()}
    checks["bad input"] = partial(bad_input, base, name, key, form)
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

    headers = _headers(key)
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


def embeddings(base: str, name: str, key: str) -> str:
    """Two texts at once: vectors of one length, the same each time, another for another text."""
    from openai import OpenAI

    client = OpenAI(base_url=f"{base}/v1", api_key=key or "none", timeout=TIMEOUT_S, max_retries=0)
    if name not in [model.id for model in client.models.list()]:
        return f"/v1/models does not list {name}"
    texts = [QUESTION, QUESTIONS[-1]]
    first, second = ([one.embedding for one in client.embeddings.create(model=name, input=texts).data] for _ in "12")
    if len(first) != len(texts) or len({len(one) for one in first}) != 1 or not first[0]:
        return f"{len(first)} vectors for {len(texts)} texts"
    if not np.isfinite(first).all():
        return "a vector with numbers that are not finite"
    if not np.allclose(first, second, atol=1e-3):
        return "the same texts have other vectors the second time"
    return "all texts have one vector" if np.allclose(first[0], first[1], atol=1e-6) else ""


def pictures(base: str, name: str, key: str) -> str:
    """A picture as it is and in JSON: the same classes."""
    with httpx.Client(base_url=base, headers=_headers(key), timeout=TIMEOUT_S) as client:
        bare = client.post(CLASSIFY, content=picture(1), headers={"content-type": "image/png"})
        answers = [bare, client.post(CLASSIFY, json=_asked("pictures", 1))]
    if any(one.status_code != 200 for one in answers):
        return f"a picture is answered by {answers[0].status_code}, in JSON by {answers[1].status_code}"
    alike = likeness(CLASSIFY)
    assert alike is not None
    return "" if alike(answers[0].content, answers[1].content) == 1.0 else "the same picture has other classes in JSON"


def tensors(base: str, name: str, key: str) -> str:
    """Inputs of zeros by NVIDIA's client, as the model's own metadata describes them."""
    from tritonclient.http import InferenceServerClient, InferInput
    from tritonclient.utils import triton_to_np_dtype

    client = InferenceServerClient(base.removeprefix("http://"), network_timeout=TIMEOUT_S)
    try:
        told = client.get_model_metadata(name, headers=_headers(key))
        given = []
        for one in told["inputs"]:
            zeros = np.zeros([size if size > 0 else 1 for size in one["shape"]], triton_to_np_dtype(one["datatype"]))
            given.append(InferInput(one["name"], list(zeros.shape), one["datatype"]))
            given[-1].set_data_from_numpy(zeros)
        found = client.infer(name, given, headers=_headers(key))
        names = [one["name"] for one in found.get_response()["outputs"]]
        return "" if names and found.as_numpy(names[0]).size else "an answer without numbers"
    finally:
        client.close()


def questions_at_once(form: Form) -> Check:
    """Some callers at once, some times: all are answered."""

    def work(base: str, name: str, key: str) -> str:
        def one(number: int) -> int:
            asked = question(form, number)
            assert asked is not None
            path, body = asked
            return httpx.post(f"{base}{path}", json=body, headers=_headers(key), timeout=TIMEOUT_S).status_code

        with ThreadPoolExecutor(CALLERS) as pool:
            answers = list(pool.map(one, range(CALLERS * EACH)))
        failed = [status for status in answers if status != 200]
        return f"{len(failed)} of {len(answers)} requests failed: {failed[0]}" if failed else ""

    return work


def _asked(form: Form, number: int) -> dict[str, Any]:
    asked = question(form, number)
    return asked[1] if asked else {}


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def under_load(base: str, name: str, key: str) -> str:
    """Some callers at once, some times: all are answered."""
    asks = [Ask(0.5 * turn, f"{QUESTION} ({turn})", TOKENS) for turn in range(EACH) for _ in range(CALLERS)]
    outcomes, _ = asyncio.run(load.run(base, name, asks, key or None))
    failed = [one.error or "empty" for one in outcomes if one.error or not one.tokens]
    return f"{len(failed)} of {len(asks)} requests failed: {failed[0]}" if failed else ""


def bad_input(base: str, name: str, key: str, form: Form = "generation") -> str:
    """Check that what must be refused is, in words, and that the server is ready afterwards."""
    headers = _headers(key)
    dice = random.Random(7)  # noqa: S311 - noise, not a secret
    noise = "".join(dice.choices(string.printable, k=200))
    infer = f"/v2/models/{name}/infer"
    cases: list[tuple[str, dict[str, Any], set[int]]] = [
        (infer, {"json": {"inputs": "none"}}, {400}),
        (infer, {"content": noise.encode()}, {400}),
        ("/v1/../../etc/passwd", {"json": {}}, {400, 404, 405}),
    ]
    guarded = infer
    if form == "generation":
        guarded = "/v1/completions"
        cases += [
            ("/v1/completions", {"content": b"{"}, {400}),
            ("/v1/completions", {"content": noise.encode()}, {400}),
            ("/v1/completions", {"json": {"model": name, "prompt": "x", "max_tokens": 0}}, {400}),
            ("/v1/completions", {"json": {"model": name, "prompt": "x", "temperature": "hot"}}, {400}),
            ("/v1/completions", {"json": {"model": "no-such-model", "prompt": "x"}}, {404}),
            ("/v1/chat/completions", {"json": {"model": name, "messages": []}}, {400}),
        ]
    if form == "texts":
        empty: tuple[Any, ...] = ("", [], 7)
        cases += [(EMBEDDINGS, {"json": {"model": name, "input": wrong}}, {400}) for wrong in empty]
        cases += [(EMBEDDINGS, {"json": {"model": "no-such-model", "input": "x"}}, {404})]
    if form == "pictures":
        none: tuple[list[str], ...] = ([], ["?"], ["bm8gcGljdHVyZQ=="])
        cases += [(CLASSIFY, {"json": {"images": wrong}}, {400}) for wrong in none]
    cases += [(guarded, {"content": b"x" * (8 * 2**20)}, {413})]
    with httpx.Client(base_url=base, headers=headers, timeout=TIMEOUT_S) as client:
        for path, body, allowed in cases:
            try:
                status = client.post(path, **body).status_code
            except httpx.WriteError:  # refused before all of it was sent
                status = 413
            if status not in allowed:
                return f"{path} with {str(body)[:80]} answers {status}, not {' or '.join(map(str, sorted(allowed)))}"
        if key and httpx.post(f"{base}{guarded}", json={"prompt": "x"}, timeout=TIMEOUT_S).status_code != 401:
            return "without the API key it answers"
        return "" if client.get("/v2/health/ready").status_code == 200 else "it is not ready after bad input"


if __name__ == "__main__":
    print(json.dumps(check(sys.argv[1], sys.argv[2], sys.argv[3])))  # type: ignore[arg-type]
