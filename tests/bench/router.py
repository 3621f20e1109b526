"""What the router adds to a request: the same server asked directly and through it, in turns. The last line is JSON."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from tasks.measure.statistics import percentile
from tasks.promotion.rollout import State
from tests.bench import harness
from tests.bench.harness import Figures, Limit, tell
from tests.drill.rig import Rig

RATE, BLOCK_S, BLOCKS = 200.0, 5.0, 4  # requests per second; blocks each way, in the order there, back, back, there
LIMITS = {"router_p99_added_ms": Limit(most=2.0), "failed": Limit(most=0)}


async def block(base: str, rate: float, seconds: float) -> tuple[list[float], int]:
    """Open loop at a steady rate: milliseconds of each request, and how many failed."""
    taken: list[float] = []
    failed = 0

    async def one(session: aiohttp.ClientSession, at: float) -> None:
        nonlocal failed
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        began = time.perf_counter()
        try:
            async with session.post("/v1/completions", json={"prompt": "ping", "max_tokens": 1}) as answer:
                await answer.read()
                failed += answer.status != 200
        except aiohttp.ClientError:
            failed += 1
        taken.append(1e3 * (time.perf_counter() - began))

    async with aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(limit=0)) as session:
        start = time.perf_counter()
        await asyncio.gather(*(one(session, start + number / rate) for number in range(round(rate * seconds))))
    return taken, failed


def bench(folder: Path) -> Figures:
    """Both ways in turns."""
    made = Rig(folder, server="tests.drill.quick_server")
    made.store.save(State(blue=made.versions[0], alias=made.versions[0].version))
    try:
        made.start()
        made.until(lambda _: made.store.address("blue") is not None, 30.0, "a server")
        time.sleep(2.0)
        address = made.store.address("blue")
        assert address is not None
        times: dict[str, list[float]] = {"direct": [], "router": []}
        failed = 0
        bases = {"direct": address.base, "router": made.base}
        for base in bases.values():
            asyncio.run(block(base, RATE, 1.0))  # connections, caches
        for turn in range(BLOCKS):
            for way in ("direct", "router") if turn % 2 == 0 else ("router", "direct"):
                taken, lost = asyncio.run(block(bases[way], RATE, BLOCK_S))
                times[way] += taken
                failed += lost
                tell(f"{way}: median {statistics.median(taken):.2f} ms")
    finally:
        made.end()
    p99 = {way: percentile(taken, 0.99) for way, taken in times.items()}
    assert p99["direct"] is not None and p99["router"] is not None
    return {
        "requests_each_way": len(times["router"]),
        "rate": RATE,
        "direct_p50_ms": round(statistics.median(times["direct"]), 3),
        "router_p50_ms": round(statistics.median(times["router"]), 3),
        "direct_p99_ms": round(p99["direct"], 3),
        "router_p99_ms": round(p99["router"], 3),
        "router_p99_added_ms": round(p99["router"] - p99["direct"], 3),
        "failed": failed,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run `make bench-router`; exit code 1 when a limit is not kept."""
    harness.parser("bench.router", __doc__).parse_args(argv)
    return harness.main("bench-router", bench, LIMITS)


if __name__ == "__main__":
    raise SystemExit(main())
