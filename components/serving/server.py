"""The HTTP API: what OpenAI's clients expect, templates, classification and fingerprints."""

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from prometheus_client import generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.serving import schemas
from components.serving.engine import Caller, Engine, RequestError
from components.serving.fingerprints import answer_id
from components.serving.gateway import Gateway
from components.serving.generation import Answer
from components.serving.templates import Templates

RETRY_SECONDS = "1"
PATIENCE_SECONDS = 30  # with a client that reads nothing, while others wait for the engine
LARGEST_BODY = 1 << 20
TEXTS_AT_ONCE = 16  # a client that left is noticed in between
CLIENT_LEFT = 499  # as nginx names it; nobody reads it but the figures
STATUS = {"not_found": 404, "model_not_found": 404, "overloaded": 429, "model_unavailable": 503}
TYPES = {
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
TOLD = ("content", "method", "task", "prompt", "backend", "unavailable")  # of a model
log = logging.getLogger("kindling.server")


def create_app(
    engine: Engine, templates: Templates, fingerprints: Path, identity: Mapping[str, Any]
) -> FastAPI:
    """The application.

    fingerprints: the folder for their records. identity: what every answer has in common, with
    `pipeline` and the registered `versions` by model.
    """
    gateway = Gateway(engine, templates, fingerprints, identity)
    app = FastAPI(title="kindling", docs_url="/docs", redoc_url=None)
    app.state.gateway = gateway
    app.add_middleware(_Measured, gateway=gateway)
    _errors(app)
    _information(app, gateway)
    _work(app, gateway)
    return app


class _Measured:
    """Refuses huge bodies, and counts each answer once it is said to its end."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self.app, self.gateway = app, gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        size = int(Headers(scope=scope).get("content-length") or 0)
        if size > LARGEST_BODY:
            refusal = _failure(413, f"a body of {size} bytes; at most {LARGEST_BODY}")
            await refusal(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            with anyio.fail_after(PATIENCE_SECONDS):
                await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            if scope["path"].startswith("/v1/"):
                self._count(scope, status, time.monotonic() - started)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        model = scope.get("state", {}).get("model", "")
        self.gateway.requests.labels(scope["path"], model, status).inc()
        self.gateway.seconds.labels(scope["path"]).observe(seconds)


def _failure(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> JSONResponse:
    """An error in OpenAI's shape."""
    kind = TYPES.get(status, "invalid_request_error")
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    headers = {"Retry-After": RETRY_SECONDS} if status == 429 else None
    return JSONResponse(body, status, headers)


def _errors(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refused(_request: Request, error: RequestError) -> JSONResponse:
        return _failure(STATUS.get(error.code, 400), str(error), error.param, error.code)

    @app.exception_handler(ValueError)
    async def wrong(_request: Request, error: ValueError) -> JSONResponse:
        return _failure(400, str(error), None, "invalid_value")

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        return _failure(400, f"{place or 'body'}: {first['msg']}", place or None, first["type"])

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> JSONResponse:
        return _failure(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def broken(_request: Request, error: Exception) -> JSONResponse:
        log.error("an answer failed", exc_info=error)
        return _failure(500, "the server failed; its log says why")


def _information(app: FastAPI, gateway: Gateway) -> None:
    engine = gateway.engine

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok", "models": list(engine.models())}

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        entries = [
            {"id": name, "object": "model", "created": 0, "owned_by": "kindling"}
            | {key: about.get(key) for key in TOLD}
            for name, about in engine.models().items()
        ]
        return {"object": "list", "data": entries}

    @app.get("/v1/templates")
    def templates() -> dict[str, Any]:
        every = [t for name in gateway.templates.names() for t in gateway.templates.versions(name)]
        return {"object": "list", "data": [template.described() for template in every]}

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(gateway.figures), media_type="text/plain; version=0.0.4")

    @app.get("/playground", response_class=HTMLResponse)
    def playground() -> str:
        return Path(__file__).with_name("playground.html").read_text(encoding="utf-8")

    @app.post("/v1/tokenize")
    def tokenize(body: schemas.TokenizeRequest) -> dict[str, Any]:
        if body.model is not None:
            gateway.known(body.model)
        ids = engine.encode(body.input)
        pieces = [engine.decode([number]) for number in ids]
        return {"object": "tokens", "tokens": ids, "pieces": pieces, "count": len(ids)}


def _work(app: FastAPI, gateway: Gateway) -> None:
    @app.post("/v1/classify")
    async def classify(body: schemas.ClassifyRequest, request: Request) -> Any:
        request.state.model = body.model
        described = gateway.known(body.model)
        caller = Caller(content=described["content"])

        async def work() -> dict[str, Any]:
            results = []
            async with gateway.turn():
                for first in range(0, len(body.input), TEXTS_AT_ONCE):
                    texts = body.input[first : first + TEXTS_AT_ONCE]
                    results += await run_in_threadpool(engine.classify, body.model, texts, caller)
            return _classified(gateway, body.model, described, results)

        engine = gateway.engine
        return await _attended(request, work)

    @app.post("/v1/completions", response_model=None)
    async def complete(body: schemas.CompletionRequest, request: Request) -> Any:
        return await _generated(gateway, body, "text_completion", request)

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: schemas.ChatRequest, request: Request) -> Any:
        return await _generated(gateway, body, "chat.completion", request)


def _classified(
    gateway: Gateway, model: str, described: Mapping[str, Any], found: list[dict[str, float]]
) -> dict[str, Any]:
    digest = gateway.fingerprint(model, described)
    return {
        "id": answer_id("cls", digest),
        "object": "classification",
        "model": model,
        "results": [{"label": max(p, key=p.__getitem__), "probabilities": p} for p in found],
        "system_fingerprint": f"fp_{digest}",
    }


async def _generated(
    gateway: Gateway, body: schemas.Generation, kind: str, request: Request
) -> Any:
    request.state.model = body.model
    answer = await run_in_threadpool(Answer, gateway, body, kind)
    if not body.stream:
        return await _attended(request, answer.whole)
    events = answer.stream()
    # a refusal comes as a status, before the stream begins: wait in line here
    first = await _attended(request, lambda: anext(events))
    return first if isinstance(first, Response) else _Stream(first, events)


async def _attended(request: Request, work: Callable[[], Awaitable[Any]]) -> Any:
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


class _Stream(StreamingResponse):
    """Server-sent events whose source is closed however the stream ends."""

    def __init__(self, first: str, rest: AsyncGenerator[str]) -> None:
        super().__init__(self._all(first, rest), media_type="text/event-stream")
        self._rest = rest

    @staticmethod
    async def _all(first: str, rest: AsyncGenerator[str]) -> AsyncIterator[str]:
        yield first
        async for line in rest:
            yield line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._rest.aclose()
