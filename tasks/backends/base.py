"""What a runtime tells and does: the protocols that a module in this folder, or one of the user's, stands behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from numpy.typing import NDArray

from tasks.backends.sampling import Logits as Logits
from tasks.backends.sampling import Sampling
from tasks.backends.traits import Traits
from tasks.errors import UnsupportedError
from tasks.records.base import Support
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe

Family = Literal["tokens", "arrays"]  # tokens in, tokens or logits out; or named arrays in, named arrays out
Feeds = Mapping[str, NDArray[Any]]  # name of an input -> its array
OnToken = Callable[[int], None]
Settings = Mapping[str, str]
Tunable = Mapping[str, tuple[str, ...]]  # runtime setting -> its values, the default first
Names = Mapping[Family, tuple[str, ...]]

QUESTION = "What is the capital of France?"  # that `how_to_run` asks
BEGINNING = "The capital of France is"  # of a model without a chat template, which continues text
CHAT = f'[{{"role": "user", "content": "{QUESTION}"}}]'
NEW_TOKENS = 64


@dataclass(frozen=True)
class Work:
    """Inputs of a conversion: the checkpoint, its calibration data, and where shared intermediates live."""

    model: Path  # tokens: Hugging Face directory, fp32 safetensors; arrays: folder with model.onnx and its data
    calibration: tuple[str, ...]  # texts, for tokens
    threads: int
    intermediate: Path | None = None  # an unquantized artifact of the same backend, when the plan made one
    family: Family = "tokens"
    calibration_arrays: Sequence[Feeds] = ()  # inputs of the model, for arrays


class TokenScorer(Protocol):
    """A loaded artifact that tells logits. Token ids in; no tokenizer."""

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

    def runtime(self) -> dict[str, str]:
        """Properties as the runtime really uses them: execution precision, KV precision, threads, version."""
        ...

    def close(self) -> None: ...


class TokenSpeaker(Protocol):
    """A loaded artifact that writes, as it is served. Token ids in, token ids out; no tokenizer."""

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


class Looking(TokenSpeaker, Protocol):
    """A speaker that can also guess tokens by looking up in prompt and answer what followed the last ones before.

    Prompt lookup (Saxena 2023): several guesses are checked in one step, so that what copies its prompt is written
    faster; the answer is the greedy one, but for the rounding of kernels that read several tokens at once.
    """

    def generate_by_lookup(self, ids: Sequence[int], new_tokens: int, on_token: OnToken | None = None) -> list[int]:
        """The same as `generate`, by guesses that are checked."""
        ...


class Made(NamedTuple):
    """A token that an engine made for one of its requests."""

    key: int
    token: int
    logprob: float | None  # nats, under the model itself; None where the runtime does not tell
    last: bool  # as many tokens as were asked for are made
    top: tuple[tuple[int, float], ...] = ()  # the likeliest tokens with theirs, as many as were asked for


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


class Port(NamedTuple):
    """An input of a model as its runtime tells it."""

    shape: tuple[int | None, ...]  # None: any size
    dtype: str  # NumPy's name


class Arrays(Protocol):
    """A loaded artifact that maps named arrays to named arrays."""

    @property
    def inputs(self) -> Mapping[str, Port]:
        """Each input's shape and type, by name."""
        ...

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Outputs by name; the arrays are the caller's to keep and change."""
        ...

    def runtime(self) -> dict[str, str]:
        """Properties as the runtime really uses them: execution precision, threads."""
        ...

    def close(self) -> None: ...


class Backend(Protocol):
    """A module with these members is a backend: a file here and a line in table.py, or a module of the user's."""

    NAME: str
    FRAMEWORK: str | None  # what the assessment ranks it as; None: it stands beside the reference and is not ranked
    FAMILIES: tuple[Family, ...]
    PACKAGES: tuple[str, ...]  # what made and runs an artifact, by name in the package registry
    INSTALL: Names  # the packages that are enough to run an artifact, by family
    NEEDS: Names  # files of an artifact that its runtime cannot do without, by family
    SETTINGS: Tunable  # runtime settings that may be tuned
    SLOW_WITHOUT: str  # runtime of the accelerator without which it is too slow to time; "": none
    TRAITS: Traits  # what the plan knows of it; Traits() where there is nothing to say

    def probe(self, hardware: Hardware, model: ModelProfile) -> Support:
        """Tell whether this framework can make artifacts of `model` here; cheap, imports nothing heavy."""
        ...

    def convert(self, work: Work, recipe: Recipe, out: Path) -> None:
        """Write the artifact's files into the empty folder `out`; raises UnsupportedError with the reason."""
        ...

    def tensor_bytes(self, artifact: Path) -> dict[str, int]:
        """Bytes of weights per stored type, counted in the files themselves."""
        ...

    def import_runtime(self, family: Family = "tokens") -> None:
        """Import what a session needs, so that its memory can be told from the model's."""
        ...

    def versions(self) -> dict[str, str]:
        """Installed version of each of PACKAGES."""
        ...

    def how_to_run(self, settings: Settings, chat: bool, family: Family = "tokens") -> tuple[str, ...]:
        """Python statements that run the package from inside its folder, with the settings it was measured with.

        Of tokens they answer one question; `chat` says whether the tokenizer has a chat template.
        """
        ...


class TokensBackend(Backend, Protocol):
    """A backend that runs language models. `settings` are tuned ones, of SETTINGS, that differ from the defaults."""

    def scorer(self, artifact: Path, threads: int, settings: Settings | None = None) -> TokenScorer:
        """Open the artifact for the logits of every position."""
        ...

    def speaker(self, artifact: Path, threads: int, settings: Settings | None = None) -> TokenSpeaker:
        """Open the artifact as it is served to one caller."""
        ...

    def engine(
        self, artifact: Path, threads: int, slots: int, context: int, settings: Settings | None = None
    ) -> Engine:
        """Open the artifact to serve `slots` requests at once, each of at most `context` tokens."""
        ...


class ArraysBackend(Backend, Protocol):
    """A backend that runs models of named arrays. `settings` are tuned ones that differ from the defaults."""

    def arrays(self, artifact: Path, threads: int, settings: Settings | None = None) -> Arrays:
        """Open the artifact."""
        ...


def threads_of(settings: Settings | None, threads: int) -> int:
    """The tuned number of threads: `half` of those given, else all."""
    return max(1, threads // 2) if (settings or {}).get("threads") == "half" else threads


def check_family(name: str, families: Sequence[Family], family: Family) -> None:
    """Raise UnsupportedError, naming the families a backend has, where `family` is none of them."""
    if family not in families:
        raise UnsupportedError(f"{name} runs no models of family {family!r}; allowed: {', '.join(families)}")
