"""The quickest server that can stand behind a router: one answer, after a known time. For timing the router alone."""

from __future__ import annotations

import asyncio
import os
import sys

import psutil
from aiohttp import web

from tasks.serve.address import Address
from tasks.serve.command import parser

ANSWER_S = 0.005
BODY = {"object": "text_completion", "choices": [{"text": "pong", "index": 0, "finish_reason": "stop"}]}


async def _answer(request: web.Request) -> web.Response:
    await request.read()
    await asyncio.sleep(ANSWER_S)
    return web.json_response(BODY)


async def _ready(_: web.Request) -> web.Response:
    return web.json_response({"ready": True})


async def _serve(argv: list[str]) -> None:
    asked = parser().parse_args(argv)
    application = web.Application()
    application.router.add_get("/v2/health/ready", _ready)
    application.router.add_post("/v1/completions", _answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    Address(
        pid=os.getpid(), created=psutil.Process().create_time(), host=host, port=port, name=asked.name,
        version=asked.called, manifest_sha256=asked.manifest,
    ).write(asked.address)  # fmt: skip
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1:]))
