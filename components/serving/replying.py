"""How an answer goes out: watched for a client that leaves, or streamed and closed at its end."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from components.serving.engine import RequestError
from components.serving.errors import STATUS, error_body, log
from components.serving.story import Story

CLIENT_LEFT = 499  # as nginx names it; nobody reads it but figures and log


async def attended(request: Request, work: Callable[[], Awaitable[Any]]) -> Any:
    """What `work` gives; it is cancelled where the client leaves before, in line or at work."""
    found: Any = Response(status_code=CLIENT_LEFT)
    failure: Exception | None = None
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            found = await work()
        except Exception as error:  # raised below: a task group would wrap it
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return found


class EventStream(StreamingResponse):
    """Server-sent events whose source is closed however the stream ends."""

    def __init__(self, first: str, rest: AsyncGenerator[str], story: Story) -> None:
        super().__init__(_all(first, rest, story), media_type="text/event-stream")
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._rest.aclose()


async def _all(first: str, rest: AsyncGenerator[str], story: Story) -> AsyncIterator[str]:
    """Every line; an error in the midst of them is the last one, as OpenAI's clients expect."""
    yield first
    try:
        async for line in rest:
            yield line
    except RequestError as error:
        story.refused = error.code
        status = STATUS.get(error.code, 400)
        told = error_body(status, str(error), error.param, error.code)
        yield f"data: {json.dumps(told)}\n\n"
    except Exception:
        story.refused = "broken"
        log.exception("an answer failed after it had begun")
        yield f"data: {json.dumps(error_body(500, 'the server failed; its log says why'))}\n\n"
