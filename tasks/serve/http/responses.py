"""Answers as they go out: whole or as server-sent events, and given up when the client has closed the connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tasks.errors import DataError
from tasks.serve.http import openai_api
from tasks.serve.http.openai_form import Form, error
from tasks.serve.log.trace import GenerationRequest
from tasks.serve.model.answering import LateError
from tasks.serve.model.process import GoneError
from tasks.serve.model.service import Chunk, Service

Result = TypeVar("Result")


class GoneAwayError(Exception):
    """The client closed the connection."""


async def respond(
    service: Service, request: Request, body: openai_api.Request, asked: Sequence[GenerationRequest], form: Form
) -> Response:
    """Answer in OpenAI's form, whole or as a stream of events; raises DataError for a stream of several prompts."""
    prompt_tokens = sum(len(one.ids) for one in asked) // body.n
    if not body.stream:
        answers = await unless_gone(request, whole_answers(service, asked))
        return JSONResponse(form.whole(answers, prompt_tokens))
    if len(asked) > 1:
        raise DataError("several answers cannot be streamed in one request; send one request for each")
    arrived = await unless_gone(request, service.admit())
    return EventStream(service, _events(service, asked[0], arrived, form, body.usage_at_end))


class EventStream(StreamingResponse):
    """A stream of events that holds a place and gives it back however it ends, before its first event as well."""

    def __init__(self, service: Service, events: AsyncGenerator[bytes, None]) -> None:
        """Hold the place that was admitted."""
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})
        self._service, self._events = service, events

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._service.leave()
            await self._events.aclose()


async def whole_answers(service: Service, asked: Sequence[GenerationRequest]) -> list[list[Chunk]]:
    """Whole answers, those of one request at the same time."""
    tasks = [asyncio.create_task(_whole(service, one)) for one in asked]
    try:
        return [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()


async def _whole(service: Service, asked: GenerationRequest) -> list[Chunk]:
    arrived = await service.admit()
    try:
        async with contextlib.aclosing(service.chunks(asked, arrived)) as chunks:
            return [chunk async for chunk in chunks]
    finally:
        service.leave()


async def _events(
    service: Service, asked: GenerationRequest, arrived: float, form: Form, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Server-sent events; an error after the beginning is an event too, as the status is out already."""
    made = 0
    try:
        for event in form.beginning():
            yield _event(event)
        async with contextlib.aclosing(service.chunks(asked, arrived)) as chunks:
            async for chunk in chunks:
                made += 0 if chunk.echoed else len(chunk.tokens)
                for event in form.chunk(chunk):
                    yield _event(event)
        if with_usage:
            yield _event(form.closing(len(asked.ids), made))
        yield b"data: [DONE]\n\n"
    except (GoneError, LateError, DataError) as problem:
        kind = "invalid_request_error" if isinstance(problem, DataError) else "server_error"
        yield _event(error(str(problem), kind))


def _event(content: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


async def unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """The work's result; when the client closes the connection first, the work is cancelled."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.create_task(_disconnected(request.receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise GoneAwayError
        return task.result()
    finally:
        watcher.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
