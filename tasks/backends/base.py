"""The one protocol every runtime stands behind, and the table that finds it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tasks.backends.sampling import Logits as Logits
from tasks.backends.sampling import Sampling
from tasks.records import Hardware, ModelProfile, Recipe, Support

OnToken = Callable[[int], None]
Settings = Mapping[str, str]

MODULES: dict[str, str] = {
    "torch": "tasks.backends.torch",
    "openvino": "tasks.backends.openvino",
    "onnx": "tasks.backends.onnx",
    "gguf": "tasks.backends.gguf",
    "mlx": "tasks.backends.mlx",
}


@dataclass(frozen=True)
class Work:
    """What a conversion may use: the fp32 checkpoint, its calibration texts, and where shared intermediates live."""

    model: Path  # Hugging Face directory, fp32 safetensors
    calibration: tuple[str, ...]
    threads: int
    intermediate: Path | None = None  # an unquantized artifact of the same backend, when the plan made one


class Session(Protocol):
    """A loaded artifact. Token ids in, token ids or logits out; no tokenizer."""

    def score(self, ids: Sequence[int]) -> Logits:
        """Teacher-forced logits, shape (len(ids), vocabulary), float32: row i predicts token i + 1."""
        ...

    def score_after(
        self, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[Logits]]:
        """For each ending of each prompt the logits that predict its tokens, shape (len(ending), vocabulary).

        Prompts are of one length and have as many endings each. The same as `score` of prompt and ending together
        (`endings_apart`), with every prompt processed only once. The arrays are the caller's to change.
        """
        ...

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: OnToken | None = None) -> list[int]:
        """Greedy continuation of exactly `new_tokens` tokens; end-of-text does not stop it, so that work is equal."""
        ...

    def prefill(self, ids: Sequence[int]) -> None:
        """Process the prompt and produce its one next token."""
        ...

    def generate_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        """Greedy continuations of prompts of one length, together; the tokens of each."""
        ...

    def runtime(self) -> dict[str, str]:
        """Properties as the runtime really uses them: execution precision, KV precision, threads, version."""
        ...

    def close(self) -> None: ...


class Made(NamedTuple):
    """A token that an engine made for one of its requests."""

    key: int
    token: int
    logprob: float | None  # nats, under the model itself; None where the runtime does not tell
    last: bool  # as many tokens as were asked for are made


class Engine(Protocol):
    """A loaded artifact that writes for several requests at once, a step at a time. For one thread.

    End-of-text does not stop a request: who asked drops it. The number of requests under way is the caller's to bound.
    """

    def add(self, key: int, ids: Sequence[int], new_tokens: int, sampling: Sampling) -> None:
        """Begin a request; `ids` and `new_tokens` together fit the context the engine was opened with."""
        ...

    def step(self) -> list[Made]:
        """Go on with what is under way: read prompts, make tokens. May make none while prompts are read."""
        ...

    def drop(self, key: int) -> None:
        """Forget a request; one that is not there, or no more, is no error."""
        ...

    def close(self) -> None: ...


class Backend(Protocol):
    """A module with these functions is a backend; a new one is a file here, a line in MODULES and a variant."""

    def probe(self, hardware: Hardware, model: ModelProfile) -> Support:
        """Whether this framework can make artifacts of `model` here; cheap, imports nothing heavy."""
        ...

    def convert(self, work: Work, recipe: Recipe, out: Path) -> None:
        """Write the artifact's files into the empty folder `out`; raises UnsupportedError with the reason."""
        ...

    def tensor_bytes(self, artifact: Path) -> dict[str, int]:
        """Bytes of weights per stored type, counted in the files themselves."""
        ...

    SETTINGS: Mapping[str, tuple[str, ...]]  # runtime settings that may be tuned, each with its values, default first

    def load(self, artifact: Path, threads: int, purpose: str, settings: Settings | None = None) -> Session:
        """Open the artifact; `purpose` is "score" (all logits) or "generate" (as served).

        `settings` are tuned ones, of SETTINGS, that differ from the defaults.
        """
        ...

    def engine(
        self, artifact: Path, threads: int, slots: int, context: int, settings: Settings | None = None
    ) -> Engine:
        """Open the artifact to serve `slots` requests at once, each of at most `context` tokens."""
        ...

    def import_runtime(self) -> None:
        """Import what `load` needs, so that its memory can be told from the model's."""
        ...

    def versions(self) -> dict[str, str]: ...


def backend(name: str) -> Any:
    """The backend module called `name`, satisfying `Backend`. Imports no framework yet."""
    return importlib.import_module(MODULES[name])


def threads_of(settings: Settings | None, threads: int) -> int:
    """The tuned number of threads: `half` of those given, else all."""
    return max(1, threads // 2) if (settings or {}).get("threads") == "half" else threads


Stream = Iterator[tuple[int, float | None]]  # tokens with their log-probabilities, without end


class Interleaved:
    """An engine over a runtime without batches that change: requests take turns, a token each."""

    def __init__(self, begin: Callable[[Sequence[int], int, Sampling], Stream], close: Callable[[], None]) -> None:
        """`begin` opens a request: prompt, new tokens, sampling; its prompt is read when its first token is taken."""
        self._begin, self._close = begin, close
        self._running: dict[int, tuple[Stream, int]] = {}
        self._waiting: dict[int, tuple[Sequence[int], int, Sampling]] = {}

    def add(self, key: int, ids: Sequence[int], new_tokens: int, sampling: Sampling) -> None:
        """Begin a request."""
        self._waiting[key] = (ids, new_tokens, sampling)

    def step(self) -> list[Made]:
        """A token of each, and of those that wait the first one's: others are not kept for longer than one prompt."""
        if self._waiting:
            key, (ids, new_tokens, sampling) = next(iter(self._waiting.items()))
            del self._waiting[key]
            self._running[key] = (self._begin(ids, new_tokens, sampling), new_tokens)
        made = []
        for key, (stream, left) in list(self._running.items()):
            token, logprob = next(stream)
            made.append(Made(key, token, logprob, left == 1))
            self._running[key] = (stream, left - 1)
            if left == 1:
                del self._running[key]
        return made

    def drop(self, key: int) -> None:
        """Forget a request."""
        self._waiting.pop(key, None)
        self._running.pop(key, None)

    def close(self) -> None:
        """Free the model."""
        self._running.clear()
        self._close()


def endings_apart(
    session: Session, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
) -> list[list[Logits]]:
    """What `score_after` answers, by processing the prompt anew for each ending."""
    return [
        [session.score([*prompt, *ending])[len(prompt) - 1 : -1] for ending in own]
        for prompt, own in zip(prompts, endings, strict=True)
    ]


def padded(endings: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    """All endings in a row, filled up to the longest; what is after an ending's end is seen by nothing before it."""
    flat = [ending for own in endings for ending in own]
    longest = max(len(ending) for ending in flat)
    return [[*ending, *([0] * (longest - len(ending)))] for ending in flat]


def unpadded(logits: Logits, endings: Sequence[Sequence[Sequence[int]]]) -> list[list[Logits]]:
    """Rows of `padded` back to each prompt's endings, cut to their lengths; logits (rows, longest, vocabulary)."""
    rows = iter(logits)
    return [[next(rows)[: len(ending)] for ending in own] for own in endings]


def installed(module: str, package: str) -> Support:
    """Whether a module can be imported, without importing it."""
    if importlib.util.find_spec(module) is None:
        return Support(ok=False, reason=f"{package} is not installed; `make env` installs it")
    return Support(ok=True, reason=f"{package} {versions_of(package)[package]}")


def versions_of(*packages: str) -> dict[str, str]:
    """Installed versions; a package that is absent is said so."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def link_files(source: Path, out: Path) -> None:
    """Hard-link every file of `source` into `out`, copying where the file system cannot link."""
    out.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if not file.is_file():
            continue
        try:
            os.link(file, out / file.name)
        except OSError:
            shutil.copy2(file, out / file.name)


def safetensors_bytes(folder: Path) -> dict[str, int]:
    """Bytes per tensor type over the *.safetensors of a folder, from their headers."""
    counted: dict[str, int] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                counted[entry["dtype"]] = counted.get(entry["dtype"], 0) + end - begin
    return counted
