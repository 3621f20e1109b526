"""A repository started in Triton's real server and asked: by one caller, by eight at once, and for streams."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.backends import table
from tasks.errors import EdgewrightError
from tasks.hardware import cores
from tasks.records.base import write_text
from tasks.records.bundles import Compared
from tasks.targets import bundled, greedy, pbtxt, ports
from tasks.targets.base import Shipped
from tasks.targets.triton import config
from tasks.targets.triton.config import FILE, Serving, Tensor
from tasks.targets.triton.server import Server, running

ENGINE = "tritonserver 2.51 of nvidia-pytriton, on this processor"
CALLERS = 8
ROWS = 4  # of arrays that answers are compared on
NEAR = 1e-5  # of the largest value: the server's own environment has the same runtime, and NumPy 1
Array = NDArray[Any]


class Shared(NamedTuple):
    """How requests that came at once were put together."""

    asked: int
    executions: int

    @property
    def fault(self) -> str:
        """Empty where they shared batches."""
        if self.executions < self.asked:
            return ""
        return f"{self.asked} requests at once shared no batch: {self.executions} executions"


def tokens(place: Path, shipped: Shipped, repository: Path) -> Compared:
    """Token ids of greedy answers, beside those of the package's own engine."""
    texts = greedy.prompts(shipped)
    if not texts:
        return Compared(engine=ENGINE, state="not-measured", reason="there are no texts to compare answers on")
    name = shipped.name
    try:
        expected = greedy.answers(shipped, texts, 2 * greedy.PROMPT + greedy.NEW)
        with running(place, repository) as server:
            alone = [_written(server, name, one.prompt) for one in expected]
            asked = list(islice(cycle(expected), CALLERS))
            together, shared = at_once(server, name, [one.prompt for one in asked], _written)
            streams = [_streamed(server, f"{name}-stream", one.prompt) for one in expected]
            memory = server.memory()
    except (EdgewrightError, OSError, ValueError, RuntimeError) as error:
        return Compared(engine=ENGINE, state="failed", reason=f"{type(error).__name__}: {error}")
    pairs = [
        *zip(expected, alone, strict=True),
        *zip(asked, together, strict=True),
        *zip(expected, streams, strict=True),
    ]
    batch = range(len(alone), len(alone) + len(together))  # only a batch may round otherwise
    told = greedy.judged(shipped, [(one, ids) for one, (ids, _) in pairs], batch)
    words = [one.prompt for one, (ids, text) in pairs if tuple(ids) == one.tokens and one.text.strip() != text.strip()]
    other = f"the tokens are equal and the text is not, after {words[0]!r}" if words else ""
    faults = [one for one in (told.fault, other, shared.fault) if one]
    good = (
        f"{told.said}: {len(alone)} one by one, {shared.asked} at once in {shared.executions} executions, "
        f"{len(streams)} streamed"
    )
    return Compared(
        engine=ENGINE, state="failed" if faults else "ok", reason="; ".join(faults) or good, answers=len(pairs),
        difference=told.difference, unit="logit", rss_anon_mb=memory.anon if memory else None,
        rss_file_mb=memory.file if memory else None,
    )  # fmt: skip


def at_once(
    server: Server, model: str, questions: Sequence[Any],
    ask: Callable[[Server, str, Any], Any],
) -> tuple[list[Any], Shared]:  # fmt: skip
    """Answers of callers that come together, and how many executions they took by the server's own counter."""
    before = server.metric("nv_inference_exec_count", model), server.metric("nv_inference_count", model)
    with ThreadPoolExecutor(len(questions)) as callers:
        made = list(callers.map(lambda one: ask(server, model, one), questions))
    executions = server.metric("nv_inference_exec_count", model) - before[0]
    return made, Shared(int(server.metric("nv_inference_count", model) - before[1]), int(executions))


def _written(server: Server, model: str, text: str) -> tuple[list[int], str]:
    given: dict[str, tuple[str, Sequence[int], Sequence[Any]]]
    given = {"PROMPT": ("BYTES", (1, 1), [text]), "MAX_TOKENS": ("INT32", (1, 1), [greedy.NEW])}
    made = server.infer(model, given)
    return [one for one in made["TOKENS"] if one >= 0], made["TEXT"][0]


def _streamed(server: Server, model: str, text: str) -> tuple[list[int], str]:
    events = server.stream(model, {"PROMPT": text, "MAX_TOKENS": greedy.NEW})
    if wrong := next((one["error"] for one in events if "error" in one), None):
        raise ValueError(f"{model}: {wrong}")
    given = [one.get("TOKENS", []) for one in events]
    made = [token for one in given for token in (one if isinstance(one, list) else [one])]
    return made, "".join(str(one.get("TEXT", "")) for one in events)


def arrays(place: Path, shipped: Shipped, model: Path) -> Compared:
    """Outputs on rows of random numbers, beside the package's.

    The wheel has no backend for the files themselves: the same configuration and files are run by Python's backend.
    """
    engine = f"{ENGINE}, the files by its Python backend"
    backend = shipped.contents.backend
    found = ports.ports(backend, shipped.model)
    rows = [_feeds(found, seed) for seed in range(ROWS)]
    try:
        session = table.arrays(backend).arrays(shipped.model, cores.usable_cores(), dict(shipped.contents.settings))
        try:
            expected = [session.run(one) for one in rows]
        finally:
            session.close()
        with tempfile.TemporaryDirectory(prefix="edgewright-triton-") as folder:
            twin(model, shipped, found, Path(folder) / model.name)
            with running(place, Path(folder)) as server:
                alone = [_run(server, model.name, one) for one in rows]
                shared = at_once(server, model.name, rows * (CALLERS // ROWS), _run)[1]
    except (EdgewrightError, OSError, ValueError, RuntimeError) as error:
        return Compared(engine=engine, state="failed", reason=f"{type(error).__name__}: {error}")
    apart = max(_apart(one, other) for one, other in zip(expected, alone, strict=True))
    fault = shared.fault if found.batched else ""
    if apart > NEAR:
        fault = f"outputs differ by up to {apart:.3g} of the largest value"
    good = (
        f"outputs of {len(rows)} rows equal the package's; {shared.asked} at once took {shared.executions} executions"
    )
    return Compared(
        engine=engine, state="failed" if fault else "ok", reason=fault or good, answers=len(rows), difference=apart,
        unit="of the largest value",
    )  # fmt: skip


def twin(model: Path, shipped: Shipped, found: ports.Ports, out: Path) -> None:
    """A model's configuration and files, to be run by the Python backend instead of the one they are for."""
    raw = pbtxt.parsed((model / FILE).read_text(encoding="utf-8"))
    slots = int(raw["max_batch_size"][0])
    batching = raw.get("dynamic_batching", [{}])[0]
    first = 1 if found.batched else 0
    serving = Serving(slots, int(batching.get("max_queue_delay_microseconds", [0])[0]))
    inputs, outputs = (
        [Tensor(name, kind, sizes[first:] or (1,)) for name, (kind, sizes) in one.items()] for one in found
    )
    settings = {"runtime": shipped.contents.backend, "properties": greedy.properties(shipped.contents)}
    told = {"engine": json.dumps(settings)}
    shutil.copytree(model / "1", out / "1")
    shutil.copyfile(bundled.TEMPLATES / "triton" / "python" / "triton_arrays.py", out / "1" / "model.py")
    write_text(out / FILE, pbtxt.written(config.config(out.name, "python", inputs, outputs, serving, told)))


def _feeds(found: ports.Ports, seed: int) -> dict[str, Array]:
    """One row of every input: numbers between 0 and 1, integers of 0 and 1, free sizes of 8."""
    rng = np.random.default_rng(seed)

    def row(kind: str, sizes: Sequence[int]) -> Array:
        shape = [1 if at == 0 and size < 0 else (8 if size < 0 else size) for at, size in enumerate(sizes)]
        made = rng.random(shape) if kind.startswith("float") else rng.integers(0, 2, shape)
        return np.asarray(made, dtype=kind)

    return {name: row(kind, sizes) for name, (kind, sizes) in found.inputs.items()}


def _run(server: Server, model: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
    kinds = {"float32": "FP32", "float16": "FP16", "float64": "FP64"}
    given = {
        name: (kinds.get(str(one.dtype), str(one.dtype).upper()), one.shape, one.reshape(-1).tolist())
        for name, one in feeds.items()
    }
    return {name: np.array(data) for name, data in server.infer(model, given).items()}


def _apart(expected: Mapping[str, Array], made: Mapping[str, Array]) -> float:
    """The largest difference over all outputs, as a share of the largest value of its output."""
    found = [0.0]
    for name, one in expected.items():
        flat = one.astype(np.float64).reshape(-1)
        if flat.shape != made[name].shape:
            return float("inf")
        found.append(float(np.abs(flat - made[name]).max() / max(float(np.abs(flat).max()), 1e-12)))
    return max(found)
