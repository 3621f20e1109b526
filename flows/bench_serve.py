"""What serving costs: through HTTP beside the bare session, several streams beside one, and beside a peer's server.

All in one run on one artifact after another; the sample in llama.cpp's int8 and in OpenVINO's. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from flows.bench import Limit, conclude, copy, tell, timed
from tasks import config, paths
from tasks.backends import gguf
from tasks.backends.base import backend
from tasks.measure import guard
from tasks.models.text_data import Prompts
from tasks.models.tokens import decoder, encoder
from tasks.packaging.manifest import CONTENTS, Contents, write_manifest
from tasks.records import PlanEntry
from tasks.serve.load import Ask, Outcome, run
from tasks.stage import run_stage

SERVED = ("gguf-q8_0", "openvino-int8")
PEER = "gguf-q8_0"  # whose file llama-cpp-python's own server takes
STREAMS = (1, 4, 8)
NEW_TOKENS, ROUNDS = 64, 3  # tokens of an answer; how often all is measured, each time by fresh processes
ALONE, ASKED, ANSWER = 8, 4, 48  # prompts beside the bare session, how often each round asks them, for how many tokens
CONTEXT, START_S = 512, 120
LAST = 2048  # bytes that hold the end of a stream

LIMITS = {
    **{f"{name}_decode_of_bare": Limit(least=0.95) for name in SERVED},
    **{f"{name}_first_token_added_ms": Limit(most=5.0) for name in SERVED},
    **{f"{name}_eight_streams_x": Limit(least=1.8) for name in SERVED},
    **{f"{name}_slowest_stream_of_mean": Limit(most=2.0) for name in SERVED},
    **{f"peer_first_token_x_{count}": Limit(least=1.0) for count in STREAMS},
    **{f"peer_throughput_x_{count}": Limit(least=1.0) for count in STREAMS},
}


# -- servers -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def ours(folder: Path, variant: str, package: Path) -> Iterator[str]:
    """Our server of one package; its address."""
    command = [
        sys.executable, "-m", "tasks.serve", "--package", str(package), "--name", variant, "--port", "0",
        "--slots", str(max(STREAMS)), "--log", str(folder / "log"),
    ]  # fmt: skip
    log = (folder / f"{variant}.log").open("w")
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if " at http://" not in line:
            raise RuntimeError(f"the server of {variant} did not start: {(folder / f'{variant}.log').read_text()}")
        yield line.split(" at ")[1].split("/v1")[0]
    finally:
        _end(process)


@contextlib.contextmanager
def peer(folder: Path, file: Path, threads: int) -> Iterator[str]:
    """llama-cpp-python's own server of the same file; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "llama_cpp.server", "--model", str(file), "--host", "127.0.0.1", "--port", str(port),
        "--n_ctx", str(CONTEXT), "--n_threads", str(threads), "--n_threads_batch", str(threads),
        "--flash_attn", str(gguf.flash({})), "--interrupt_requests", "False", "--verbose", "False",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=(folder / "peer.log").open("w"))
    try:
        base, until = f"http://127.0.0.1:{port}", time.monotonic() + START_S
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{base}/v1/models").status_code == 200:
                    break
            if time.monotonic() > until or process.poll() is not None:
                raise RuntimeError(f"llama_cpp.server did not start: {(folder / 'peer.log').read_text()[-2000:]}")
            time.sleep(0.2)
        yield base
    finally:
        _end(process)


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# -- measuring ---------------------------------------------------------------------------------------------------------


def bare(request: Mapping[str, Any]) -> None:
    """The session alone, in a process of its own: for each line that comes in, one prompt's times go out."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what runtimes print belongs to the log
    session = backend(request["backend"]).load(Path(request["artifact"]), request["threads"], "generate")
    session.generate(request["warm_up"], 4)
    out.write("ready\n")
    for line in sys.stdin:
        stamps: list[float] = []
        began = time.perf_counter()
        session.generate(
            request["prompts"][int(line)], ANSWER, lambda _, stamps=stamps: stamps.append(time.perf_counter())
        )
        assert len(stamps) == ANSWER, f"the bare session made {len(stamps)} tokens"
        out.write(json.dumps(_times(began, stamps)) + "\n")


def _times(began: float, stamps: Sequence[float]) -> dict[str, float]:
    """Seconds to the first piece of an answer of `ANSWER` tokens, and between its tokens, which may share a piece."""
    return {"first_s": stamps[0] - began, "gap_s": (stamps[-1] - stamps[0]) / (ANSWER - 1)}


@contextlib.contextmanager
def alone(folder: Path, variant: str, request: Mapping[str, Any]) -> Iterator[Callable[[int], dict[str, float]]]:
    """The bare session of one artifact, loaded; called with a prompt's number it answers with its times."""
    command = [sys.executable, "-m", "flows.bench_serve", "--bare", json.dumps(request)]
    log = (folder / f"bare-{variant}.log").open("w")
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
    )
    assert process.stdin is not None and process.stdout is not None
    given, told = process.stdin, process.stdout

    def ask(number: int) -> dict[str, float]:
        given.write(f"{number}\n")
        answer: dict[str, float] = json.loads(told.readline())
        return answer

    try:
        if told.readline() != "ready\n":
            raise RuntimeError(f"the bare session did not load: {(folder / f'bare-{variant}.log').read_text()[-2000:]}")
        yield ask
    finally:
        given.close()
        process.wait(timeout=30)


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


def alone_on_the_line(base: str, model: str, prompt: str) -> dict[str, float]:
    """One stream, timed as `bare` does it, by a client that only notes when a piece comes: it shares the machine."""
    body = json.dumps(
        {
            "model": model,
            "prompt": prompt,
            "max_tokens": ANSWER,
            "temperature": 0,
            "stream": True,
            "ignore_eos": True,
        }
    ).encode()
    host, port = base.removeprefix("http://").split(":")
    head = f"POST /v1/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    asked = f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
    stamps: list[float] = []
    tail = b""
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        line.sendall(asked)
        while data := line.recv(65536):
            stamps += [time.perf_counter()] * data.count(b"data: {")
            tail = (tail + data)[-LAST:]
    if b'"finish_reason":"length"' not in tail:  # then the last piece holds the last of its tokens
        raise RuntimeError(f"{model} broke off after {len(stamps)} pieces of an answer: {tail.decode()}")
    return _times(began, stamps)


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
                own, http = ask(number), alone_on_the_line(base, variant, texts[number])
            else:
                http, own = alone_on_the_line(base, variant, texts[number]), ask(number)
            pairs.append((own["gap_s"] / http["gap_s"], 1e3 * (http["first_s"] - own["first_s"])))
    return pairs


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


def measure(folder: Path, threads: int) -> dict[str, float | None]:
    """All figures, in the folder with the artifacts."""
    prompts = Prompts.read(paths.PROMPTS)
    drawn = [*prompts.short, *(ids[:96] for ids in prompts.long)][: 2 * max(STREAMS)]
    decode, encode = decoder(paths.MODEL), encoder(paths.MODEL)
    asked = [decode(ids) for ids in drawn]  # texts, which every server takes
    figures: dict[str, float | None] = {}
    for variant in SERVED:
        entry = PlanEntry.read(paths.plan(variant))
        package = packaged(folder, variant, entry)
        request = {
            "backend": entry.recipe.backend, "artifact": str(package / "model"), "threads": threads,
            "warm_up": prompts.short[-1], "prompts": [encode(text) for text in asked[:ALONE]],
        }  # fmt: skip
        pairs, at_once = [], []
        for _ in range(ROUNDS):  # each process has its own luck with memory and cores
            with ours(folder, variant, package) as base:
                streams(base, variant, asked[:1], 1)
                pairs += beside_bare(folder, variant, base, request, asked[:ALONE])
                at_once.append({count: streams(base, variant, asked, count) for count in STREAMS})
        figures |= _told_beside_bare(variant, pairs)
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


def beside_peer(
    folder: Path, package: Path, asked: Sequence[str], threads: int, variant: str
) -> dict[str, float | None]:
    """The same load on both servers in turns; above 1 ours is better."""
    first: dict[int, list[float]] = {count: [] for count in STREAMS}
    throughput: dict[int, list[float]] = {count: [] for count in STREAMS}
    for _ in range(ROUNDS):
        with ours(folder, variant, package) as base:
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
    for file in paths.artifact_files(variant).iterdir():
        os.link(file, out / "model" / file.name)
    (out / "tokenizer").mkdir()
    for file in paths.MODEL.iterdir():
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


def bench(root: Path, scratch: Path) -> dict[str, float | None]:
    """Make the artifacts in a fresh copy and measure there."""
    folder = copy(root, scratch / "serve")
    for stage in ("code", "detect", "fetch", "data", "reference", "assess"):
        if timed(folder, "-m", f"tasks.{stage}") is None:
            return dict.fromkeys(LIMITS)
    for variant in ("gguf-f16", *SERVED):
        if timed(folder, "-m", "tasks.convert", "--variant", variant) is None:
            return dict.fromkeys(LIMITS)
    with contextlib.chdir(folder), guard.device_to_itself():
        return measure(folder, config.threads(config.load()))


def parser() -> argparse.ArgumentParser:
    """Command line of `make bench-serve`."""
    made = argparse.ArgumentParser(prog="python -m flows.bench_serve", description=__doc__)
    made.add_argument("--bare", metavar="JSON", help=argparse.SUPPRESS)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; exit code 1 when a limit is not kept."""
    asked = parser().parse_args(argv).bare

    def work() -> int:
        if asked:
            bare(json.loads(asked))
            return 0
        with tempfile.TemporaryDirectory(prefix="edgewright-serve-") as scratch:
            figures = bench(Path.cwd(), Path(scratch))
        return conclude("bench-serve", figures, LIMITS)

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
