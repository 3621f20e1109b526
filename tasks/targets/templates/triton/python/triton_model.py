"""A language model for Triton's Python backend: requests are added to one engine and decoded together, step by step.

As a batched model it answers a batch of requests when all of them are done; as a decoupled one (its configuration says
which) it sends each piece of text as it is made, and requests join what is under way between two steps.
"""

from __future__ import annotations

import json
import queue
import threading
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]
from engine import Engine  # type: ignore[import-not-found]

UNFINISHED = "\ufffd"  # what a decoder shows for a character of which a part is still to come


class Answer:
    """What one prompt was answered so far."""

    def __init__(self, sender: Any = None) -> None:
        self.tokens: list[int] = []
        self.text, self.error, self.sender = "", "", sender


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the package beside the repository."""
        told = json.loads(args["model_config"])
        given = {name: value["string_value"] for name, value in told["parameters"].items()}
        package = (Path(args["model_repository"]) / given["package"]).resolve()
        self.settings = json.loads(given["engine"])
        self.engine = Engine(package, self.settings)
        self.ends = set(self.settings["end_tokens"])
        self.running: dict[int, Answer] = {}
        self.keys, self.waiting = 0, queue.SimpleQueue[Any]()
        self.decoupled = pb_utils.using_decoupled_model_transaction_policy(told)
        self.loop = threading.Thread(target=self._run, daemon=True)
        if self.decoupled:
            self.loop.start()

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answer requests, or take them in where they are answered piece by piece."""
        if self.decoupled:
            for request in requests:
                self.waiting.put((request, request.get_response_sender()))
            return None
        begun = [self._begin(request) for request in requests]
        while self.running:
            self._step()
        return [self._whole(answers) for answers in begun]

    def finalize(self) -> None:
        """Stop and free the engine."""
        if self.decoupled:
            self.waiting.put(None)
            self.loop.join(timeout=10)
        self.engine.close()

    def _begin(self, request: Any, sender: Any = None) -> list[Answer]:
        """Add every prompt of a request; one that cannot be answered has an error instead."""
        try:
            prompts = [one.decode() for one in _array(request, "PROMPT").reshape(-1)]
            given = _array(request, "MAX_TOKENS")
            most = [int(one) for one in given.reshape(-1)] if given is not None else [self.settings["max_tokens"]]
            most = most if len(most) == len(prompts) else most[:1] * len(prompts)
            if self.decoupled and len(prompts) != 1:
                raise ValueError("a stream answers one prompt")
            ids = [self.engine.encode(prompt) for prompt in prompts]
            for one, count in zip(ids, most, strict=True):
                self._check(one, count)
        except (ValueError, UnicodeDecodeError) as error:
            refused = Answer(sender)
            refused.error = str(error)
            if sender:
                self._send(refused, None)
            return [refused]
        return [self._add(one, count, sender) for one, count in zip(ids, most, strict=True)]

    def _check(self, ids: list[int], count: int) -> None:
        room = self.settings["context"]
        if count < 0 or len(ids) + count > room:
            raise ValueError(f"a prompt of {len(ids)} tokens and MAX_TOKENS {count} do not fit a context of {room}")

    def _add(self, ids: list[int], count: int, sender: Any) -> Answer:
        answer = Answer(sender)
        if ids and count:
            self.keys += 1
            self.running[self.keys] = answer
            self.engine.add(self.keys, ids, count)
        elif sender:  # an empty prompt, as of a warm-up, has an empty answer
            self._send(answer, None)
        return answer

    def _run(self) -> None:
        """Decode what is under way for as long as the model is loaded; the engine has this one thread."""
        while True:
            taken = [] if self.running else [self.waiting.get()]
            while not self.waiting.empty():
                taken.append(self.waiting.get())
            if None in taken:
                return
            for request, sender in taken:
                self._begin(request, sender)
            try:
                self._step()
            except RuntimeError as error:
                self._fail(str(error))

    def _fail(self, error: str) -> None:
        """Tell everybody who waits that the engine could not go on."""
        for key, answer in self.running.items():
            self.engine.drop(key)
            answer.error = error
            self._send(answer, None)
        self.running.clear()

    def _step(self) -> None:
        for key, token, last in self.engine.step() if self.running else []:
            answer = self.running.get(key)
            if answer is None:
                continue
            ended = token in self.ends
            if not ended:
                answer.tokens.append(token)
            if ended and not last:
                self.engine.drop(key)
            if ended or last:
                del self.running[key]
            if answer.sender:
                self._send(answer, None if ended else token, ended or last)
            elif ended or last:
                answer.text = self.engine.decode(answer.tokens)

    def _send(self, answer: Answer, token: int | None, last: bool = True) -> None:
        """Send what a token added to the text."""
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if last else 0
        whole = self.engine.decode(answer.tokens)
        whole = whole if last else whole.rstrip(UNFINISHED)
        piece, answer.text = whole[len(answer.text) :], whole
        made = [] if token is None else [token]
        answer.sender.send(_response([piece], [made], answer.error), flags=final)

    def _whole(self, answers: list[Answer]) -> Any:
        failed = next((one.error for one in answers if one.error), "")
        return _response([one.text for one in answers], [one.tokens for one in answers], failed, batched=True)


def _array(request: Any, name: str) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _response(texts: list[str], tokens: list[list[int]], error: str, batched: bool = False) -> Any:
    """Texts and token ids; rows that are shorter than the longest of their request end in -1."""
    if error:
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(error))
    width = max(len(row) for row in tokens)
    rows = [[*row, *[-1] * (width - len(row))] for row in tokens]
    text = np.array([one.encode() for one in texts], dtype=np.object_)
    ids = np.array(rows, dtype=np.int64)
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor("TEXT", text.reshape(-1, 1) if batched else text),
            pb_utils.Tensor("TOKENS", ids if batched else ids[0]),
        ]
    )
