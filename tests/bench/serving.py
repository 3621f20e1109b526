"""What serving costs: through HTTP beside the bare session, several streams beside one, and beside a peer's server.

All in one run on one artifact after another; the sample in llama.cpp's int8 and in OpenVINO's. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.hardware import cores
from tasks.kinds.causal_lm import files
from tasks.kinds.causal_lm.rows import Prompts
from tasks.kinds.causal_lm.tokens import decoder, encoder
from tasks.measure import guard
from tasks.packaging.manifest import CONTENTS, Contents, write_manifest
from tasks.params.whole import load_whole
from tasks.records.plan import PlanEntry
from tasks.run.workspace import Workspace
from tasks.serve.load.load import Ask, Outcome, run
from tests.bench import harness
from tests.bench.harness import Figures, Limit, prepared, tell
from tests.bench.one_stream import alone, asked_for, through_http
from tests.bench.servers import ours, peer

SERVED = ("gguf-q8_0", "openvino-int8")
PEER = "gguf-q8_0"  # whose file llama-cpp-python's own server takes
STREAMS = (1, 4, 8)
NEW_TOKENS, ROUNDS = 64, 3  # tokens of an answer; how often all is measured, each time by fresh processes
ALONE, ASKED = 8, 4  # prompts beside the bare session, how often each round asks them
FORMS = 2  # how often each round asks them for answers of a form
LONG = {"type": "array", "items": {"type": "string"}, "minItems": 500}
FORM = {"type": "json_schema", "json_schema": {"name": "long", "schema": LONG}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "keep",
            "parameters": {"type": "object", "properties": {"all": LONG}, "required": ["all"]},
        },
    }
]

LIMITS = {
    **{f"{name}_decode_of_bare": Limit(least=0.95) for name in SERVED},
    **{f"{name}_first_token_added_ms": Limit(most=5.0) for name in SERVED},
    **{f"{name}_json_of_free": Limit(least=0.85) for name in SERVED},
    **{f"{name}_tools_of_free": Limit(least=0.85) for name in SERVED},
    **{f"{name}_eight_streams_x": Limit(least=1.8) for name in SERVED},
    **{f"{name}_slowest_stream_of_mean": Limit(most=2.0) for name in SERVED},
    **{f"peer_first_token_x_{count}": Limit(least=1.0) for count in STREAMS},
    **{f"peer_throughput_x_{count}": Limit(least=1.0) for count in STREAMS},
}


# -- measuring ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Streams:
    """Some streams at once: medians over requests, and all their tokens over the whole time."""

    first_s: float
    tokens_per_s: float
    slowest_of_mean: float  # how long the last stream took, over the mean
    failed: int


def streams(base: str, model: str, prompts: Sequence[str], count: int) -> Streams:
    """Ask for so many answers at the same moment, as often as there are prompts for."""
    found: list[Outcome] = []
    seconds, shares = 0.0, []
    for start in range(0, len(prompts) - count + 1, count):
        asks = [Ask(0.0, prompt, NEW_TOKENS) for prompt in prompts[start : start + count]]
        outcomes, took = asyncio.run(run(base, model, asks))
        whole = [one.whole for one in outcomes if one.whole is not None]
        if whole:
            shares.append(max(whole) / statistics.fmean(whole))
        seconds += took
        found += outcomes
    well = [one for one in found if one.first is not None and not one.error]
    if not well:
        raise RuntimeError(f"no answer came from {base}: {found[0].error if found else 'nothing asked'}")
    return Streams(
        first_s=statistics.median(one.first for one in well if one.first is not None),
        tokens_per_s=sum(one.tokens for one in well) / seconds,
        slowest_of_mean=max(shares),
        failed=len(found) - len(well),
    )


def beside_bare(
    folder: Path, variant: str, base: str, request: Mapping[str, Any], texts: Sequence[str]
) -> list[tuple[float, float]]:
    """Each prompt through HTTP and in the bare session, one just after the other, who is first in turns.

    Both stay loaded and idle while the other works; only neighbours in time are compared: the bare session's time
    between tokens over that through HTTP, and the milliseconds by which the first token is later.
    """
    pairs = []
    with alone(folder, variant, request) as ask:
        for turn in range(ASKED * len(texts)):
            number = turn % len(texts)
            if turn % 2:
                own, http = ask(number), through_http(base, variant, texts[number])
            else:
                http, own = through_http(base, variant, texts[number]), ask(number)
            pairs.append((own["gap_s"] / http["gap_s"], 1e3 * (http["first_s"] - own["first_s"])))
    return pairs


def held_to_a_form(base: str, texts: Sequence[str]) -> list[dict[str, float]]:
    """Answers held to a form beside free ones, just after each other: time between tokens of free over that of held.

    JSON of a schema beside any text, and a call of a tool beside a chat; each form goes on for longer than is asked.
    """
    talk = [[{"role": "user", "content": text}] for text in texts]
    found = []
    for turn in range(FORMS * len(texts)):
        text, messages = texts[turn % len(texts)], talk[turn % len(texts)]
        asked: dict[str, tuple[str, dict[str, Any]]] = {
            "free": ("/v1/completions", {"prompt": text, "ignore_eos": True}),
            "json": ("/v1/completions", {"prompt": text, "response_format": FORM}),
            "chat": ("/v1/chat/completions", {"messages": messages, "ignore_eos": True, "logprobs": True}),
            "tools": (
                "/v1/chat/completions",
                {"messages": messages, "tools": TOOLS, "tool_choice": "required", "logprobs": True},
            ),
        }
        names = list(asked) if turn % 2 else list(reversed(asked))
        gap = {name: asked_for(base, *asked[name])["gap_s"] for name in names}
        found.append({"json": gap["free"] / gap["json"], "tools": gap["chat"] / gap["tools"]})
    return found


def _told_of_forms(variant: str, found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    figures = {}
    for form in ("json", "tools"):
        ratios = [one[form] for one in found]
        figures[f"{variant}_{form}_of_free"] = statistics.median(ratios)
        low, _, high = statistics.quantiles(ratios, n=4)
        told = f"{statistics.median(ratios):.3f} of free (quartiles {low:.3f}, {high:.3f}), {len(ratios)} pairs"
        tell(f"{variant}: {form} {told}")
    return figures


def _told_beside_bare(variant: str, pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """The figures of all pairs, which are said with their quartiles."""
    ratios, added = zip(*pairs, strict=True)
    decode, first = statistics.median(ratios), statistics.median(added)
    apart = statistics.quantiles(ratios, n=4), statistics.quantiles(added, n=4)
    tell(
        f"{variant}: decode through HTTP {decode:.3f} of bare (quartiles {apart[0][0]:.3f}, {apart[0][2]:.3f}), "
        f"first token {first:+.1f} ms ({apart[1][0]:+.1f}, {apart[1][2]:+.1f}), {len(ratios)} pairs"
    )
    return {f"{variant}_decode_of_bare": decode, f"{variant}_first_token_added_ms": first}


def measure(folder: Path, threads: int) -> Figures:
    """All figures, in the folder with the artifacts."""
    prompts = Prompts.read(Workspace().data / files.PROMPTS)
    drawn = [*prompts.short, *(ids[:96] for ids in prompts.long)][: 2 * max(STREAMS)]
    decode, encode = decoder(Workspace().model), encoder(Workspace().model)
    asked = [decode(ids) for ids in drawn]  # texts, which every server takes
    figures: Figures = {}
    for variant in SERVED:
        entry = PlanEntry.read(Workspace().plan(variant))
        package = packaged(folder, variant, entry)
        request = {
            "backend": entry.recipe.backend, "artifact": str(package / "model"), "threads": threads,
            "warm_up": prompts.short[-1], "prompts": [encode(text) for text in asked[:ALONE]],
        }  # fmt: skip
        pairs, at_once, forms = [], [], []
        for _ in range(ROUNDS):  # each process has its own luck with memory and cores
            with ours(folder, variant, package, max(STREAMS)) as base:
                streams(base, variant, asked[:1], 1)
                pairs += beside_bare(folder, variant, base, request, asked[:ALONE])
                forms += held_to_a_form(base, asked[:ALONE])
                at_once.append({count: streams(base, variant, asked, count) for count in STREAMS})
        figures |= _told_beside_bare(variant, pairs)
        figures |= _told_of_forms(variant, forms)
        for count in STREAMS:
            rates, first = zip(*((one[count].tokens_per_s, one[count].first_s) for one in at_once), strict=True)
            told = f"{', '.join(f'{rate:.0f}' for rate in rates)} tokens/s"
            tell(f"{variant}, {count} streams: {told}, first token {1e3 * statistics.median(first):.0f} ms")
        gains = [one[8].tokens_per_s / one[1].tokens_per_s for one in at_once]
        figures[f"{variant}_eight_streams_x"] = statistics.median(gains)
        figures[f"{variant}_slowest_stream_of_mean"] = max(one[8].slowest_of_mean for one in at_once)
        if variant == PEER:
            figures |= beside_peer(folder, package, asked, threads, variant)
    return figures


def beside_peer(folder: Path, package: Path, asked: Sequence[str], threads: int, variant: str) -> Figures:
    """The same load on both servers in turns; above 1 ours is better."""
    first: dict[int, list[float]] = {count: [] for count in STREAMS}
    throughput: dict[int, list[float]] = {count: [] for count in STREAMS}
    for _ in range(ROUNDS):
        with ours(folder, variant, package, max(STREAMS)) as base:
            streams(base, variant, asked[:1], 1)
            own = {count: streams(base, variant, asked, count) for count in STREAMS}
        with peer(folder, package / "model" / "model.gguf", threads) as base:
            streams(base, variant, asked[:1], 1)
            other = {count: streams(base, variant, asked, count) for count in STREAMS}
        for count in STREAMS:
            first[count].append(other[count].first_s / own[count].first_s)
            throughput[count].append(own[count].tokens_per_s / other[count].tokens_per_s)
            said = [
                f"{whose} {one.tokens_per_s:.0f} tokens/s, first {1e3 * one.first_s:.0f} ms"
                for whose, one in (("ours", own[count]), ("peer", other[count]))
            ]
            tell(f"{count} streams: {'; '.join(said)}")
    return {
        **{f"peer_first_token_x_{count}": statistics.median(first[count]) for count in STREAMS},
        **{f"peer_throughput_x_{count}": statistics.median(throughput[count]) for count in STREAMS},
    }


def packaged(folder: Path, variant: str, entry: PlanEntry) -> Path:
    """A package of one artifact as it is, without a verdict: for measuring alone."""
    out = folder / "packages" / variant
    (out / "model").mkdir(parents=True)
    for file in Workspace().artifact_files(variant).iterdir():
        os.link(file, out / "model" / file.name)
    (out / "tokenizer").mkdir()
    for file in Workspace().model.iterdir():
        if file.suffix in (".json", ".jinja") and file.name != "source.json":
            os.link(file, out / "tokenizer" / file.name)
    Contents(
        model="sample", origin="bench-serve", source_sha256="", variant=variant, backend=entry.recipe.backend,
        recipe=entry.recipe, tensor_share={}, versions={}, runtime={}, settings={}, requirements=(), chat=True,
        verdict="inconclusive", results_digest="bench",
    ).write(out / CONTENTS)  # fmt: skip
    write_manifest(out)
    return out


# -- the command -------------------------------------------------------------------------------------------------------


def bench(scratch: Path) -> Figures:
    """Make the artifacts in a fresh copy and measure there."""
    folder = prepared(scratch / "serve", ("gguf-f16", *SERVED))
    if folder is None:
        return dict.fromkeys(LIMITS)
    with contextlib.chdir(folder), guard.device_to_itself():
        return measure(folder, cores.threads(load_whole().benchmark.threads))


def main(argv: Sequence[str] | None = None) -> int:
    """Run `make bench-serve`; exit code 1 when a limit is not kept."""
    harness.parser("bench.serving", __doc__).parse_args(argv)
    return harness.main("bench-serve", bench, LIMITS)


if __name__ == "__main__":
    raise SystemExit(main())
