"""The HTTP API: what OpenAI's clients expect, templates, classification and fingerprints."""

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.exceptions import HTTPException

from components.prompts import render
from components.serving import answers, schemas
from components.serving.engine import BASE, Engine, RequestError, Sampling
from components.serving.fingerprints import Fingerprints, answer_id
from components.serving.templates import Template, Templates, find

LONGEST_QUEUE = 32  # requests that wait; beyond that a client does better to come again
RETRY_SECONDS = "1"
LARGEST_BODY = 1 << 20
STATUS = {"not_found": 404, "model_not_found": 404, "overloaded": 429}
TYPES = {404: "not_found_error", 429: "rate_limit_error", 500: "server_error"}
log = logging.getLogger("kindling.server")


class Gateway:
    """What the endpoints share: the engine behind its queue, templates, fingerprints, figures."""

    def __init__(
        self, engine: Engine, templates: Templates, folder: Path, identity: Mapping[str, Any]
    ) -> None:
        self.engine, self.templates = engine, templates
        self.fingerprints, self.identity = Fingerprints(folder), dict(identity)
        self._lock, self._waiting = threading.Lock(), 0
        self.figures = CollectorRegistry()
        labels = ["endpoint", "model", "status"]
        self.requests = Counter("kindling_requests", "Answered.", labels, registry=self.figures)
        self.seconds = Histogram(
            "kindling_seconds", "Of an answer.", ["endpoint"], registry=self.figures
        )
        self.tokens = Counter(
            "kindling_tokens", "Read and written.", ["direction"], registry=self.figures
        )

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the engine; refuse where too many wait already."""
        if self._waiting >= LONGEST_QUEUE:
            raise RequestError(f"{self._waiting} requests wait; come again", None, "overloaded")
        self._waiting += 1
        try:
            self._lock.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._lock.release()

    def known(self, model: str) -> Mapping[str, Any]:
        models = self.engine.models()
        if model not in models:
            known = ", ".join(models)
            raise RequestError(
                f"no model '{model}'; there are: {known}", "model", "model_not_found"
            )
        return models[model]

    def fingerprint(self, model: str, template: Template | None = None) -> str:
        """The fingerprint of answers of `model`, on disk when this returns."""
        described = self.known(model)
        models = self.engine.models()
        record = {
            **self.identity,
            "base": self._placed(BASE, models[BASE]),
            "adapter": self._placed(model, described) if model != BASE else None,
            "template": template.described() if template else None,
            "engine": dict(self.engine.about()),
        }
        return self.fingerprints.of(record)

    def _placed(self, name: str, about: Mapping[str, Any]) -> dict[str, Any]:
        pipeline = self.identity["pipeline"]
        path = f"{pipeline}/base" if name == BASE else f"{pipeline}/adapters/{name}"
        versions = self.identity.get("versions", {})
        return {**about, "name": name, "path": path, "version": versions.get(name)}


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
    _watch(app, gateway)
    _errors(app)
    _information(app, gateway)
    _work(app, gateway)
    return app


def _watch(app: FastAPI, gateway: Gateway) -> None:
    @app.middleware("http")
    async def measured(request: Request, following: Any) -> Response:
        size = int(request.headers.get("content-length") or 0)
        if size > LARGEST_BODY:
            return _failure(413, f"a body of {size} bytes; at most {LARGEST_BODY}")
        started = time.monotonic()
        response = await following(request)
        if request.url.path.startswith("/v1/"):
            model = getattr(request.state, "model", "")
            gateway.requests.labels(request.url.path, model, response.status_code).inc()
            gateway.seconds.labels(request.url.path).observe(time.monotonic() - started)
        return response


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
            | {key: about.get(key) for key in ("content", "method", "task", "prompt")}
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
    def classify(body: schemas.ClassifyRequest, request: Request) -> dict[str, Any]:
        request.state.model = body.model
        gateway.known(body.model)
        with gateway.turn():
            found = gateway.engine.classify(body.model, body.input)
        digest = gateway.fingerprint(body.model)
        results = [{"label": max(p, key=p.__getitem__), "probabilities": p} for p in found]
        return {
            "id": answer_id("cls", digest),
            "object": "classification",
            "model": body.model,
            "results": results,
            "system_fingerprint": f"fp_{digest}",
        }

    @app.post("/v1/completions", response_model=None)
    def complete(body: schemas.CompletionRequest, request: Request) -> Any:
        request.state.model = body.model
        return _Answer(gateway, body, "text_completion").respond()

    @app.post("/v1/chat/completions", response_model=None)
    def chat(body: schemas.ChatRequest, request: Request) -> Any:
        request.state.model = body.model
        return _Answer(gateway, body, "chat.completion").respond()


class _Answer:
    """One completion or chat answer, whole or streamed."""

    def __init__(self, gateway: Gateway, body: schemas.Generation, kind: str) -> None:
        self.gateway, self.body, self.kind = gateway, body, kind
        self.is_chat = kind == "chat.completion"
        gateway.known(body.model)
        call = body.template
        self.template = find(gateway.templates, call.id, call.version) if call else None
        self.ids = self._prompt()
        self.sampling = self._sampling()
        self.digest = gateway.fingerprint(body.model, self.template)
        self.head = {
            "id": answer_id("chatcmpl" if self.is_chat else "cmpl", self.digest),
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": f"fp_{self.digest}",
        }
        if self.template:
            self.head["template"] = {"id": self.template.id, "version": self.template.version}

    def _prompt(self) -> list[int]:
        engine, body = self.gateway.engine, self.body
        text = render(self.template.text, body.template.variables) if self.template else ""
        if self.is_chat:
            said = [message.model_dump() for message in body.messages]
            if not said and not self.template:
                raise RequestError("messages is empty, and no template is named", "messages")
            if self.template and not said:
                return engine.encode(text)
            return [*(engine.encode(text) if text else []), *engine.chat(said)]
        if body.prompt is None and not self.template:
            raise RequestError("prompt is missing, and no template is named", "prompt")
        if isinstance(body.prompt, list):
            return [*(engine.encode(text) if text else []), *body.prompt]
        return engine.encode(text + (body.prompt or ""))

    def _sampling(self) -> Sampling:
        body = self.body
        room = self.gateway.engine.room(body.model)
        left = room - len(self.ids)
        wanted = body.max_tokens
        if self.is_chat:
            wanted = body.max_completion_tokens or wanted or left
        if left < max(wanted, 1):
            raise RequestError(
                f"the prompt has {len(self.ids)} tokens and max_tokens is {wanted}: together more "
                f"than the {room} that '{body.model}' has room for",
                "max_tokens",
                "context_length_exceeded",
            )
        top = (body.top_logprobs or 0) if self.is_chat else (body.logprobs or 0)
        return Sampling(wanted, body.temperature, body.top_p, body.seed, top)

    def respond(self) -> Any:
        if self.body.stream:
            turn = self.gateway.turn()
            turn.__enter__()  # a refusal comes as a status, before the stream begins
            return StreamingResponse(self._stream(turn), media_type="text/event-stream")
        with self.gateway.turn():
            choices = [self._whole(number) for number in range(self.body.n)]
        usage = self._usage(sum(len(choice.tokens) for choice in choices))
        entries = [self._entry(number, choice) for number, choice in enumerate(choices)]
        return {**self.head, "object": self.kind, "choices": entries, "usage": usage}

    def _pieces(self, number: int) -> Iterator[tuple[str, answers.Choice]]:
        seed = self.body.seed
        sampling = self.sampling
        if seed is not None and number:
            sampling = Sampling(**{**vars(sampling), "seed": seed + number})
        return answers.generate(
            self.gateway.engine, self.body.model, self.ids, sampling, self.body.stop
        )

    def _whole(self, number: int) -> answers.Choice:
        *_, (_, choice) = self._pieces(number)
        return choice

    def _entry(self, number: int, choice: answers.Choice) -> dict[str, Any]:
        common = {"index": number, "finish_reason": choice.finish_reason}
        engine, wanted = self.gateway.engine, self.body.logprobs
        if self.is_chat:
            message = {"role": "assistant", "content": choice.text, "refusal": None}
            told = answers.chat_logprobs(engine, choice, wanted)
            return {**common, "message": message, "logprobs": told}
        told = answers.completion_logprobs(engine, choice, wanted)
        return {**common, "text": choice.text, "logprobs": told}

    def _usage(self, written: int) -> dict[str, int]:
        read = len(self.ids)
        self.gateway.tokens.labels("in").inc(read)
        self.gateway.tokens.labels("out").inc(written)
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }

    def _stream(self, turn: Any) -> Iterator[str]:
        written = 0
        try:
            for number in range(self.body.n):
                if self.is_chat:
                    yield self._event(number, {"role": "assistant", "content": ""}, None)
                choice = answers.Choice()
                for piece, made in self._pieces(number):
                    choice = made
                    yield self._event(number, {"content": piece}, None)
                written += len(choice.tokens)
                yield self._event(number, {}, choice.finish_reason)
        finally:
            turn.__exit__(None, None, None)
        usage = self._usage(written)
        if self.body.stream_options and self.body.stream_options.include_usage:
            yield self._line({"choices": [], "usage": usage})
        yield "data: [DONE]\n\n"

    def _event(self, number: int, delta: dict[str, str], finish: str | None) -> str:
        entry: dict[str, Any] = {"index": number, "finish_reason": finish, "logprobs": None}
        entry |= {"delta": delta} if self.is_chat else {"text": delta.get("content", "")}
        return self._line({"choices": [entry]})

    def _line(self, rest: dict[str, Any]) -> str:
        kind = "chat.completion.chunk" if self.is_chat else self.kind
        body = {**self.head, "object": kind, **rest}
        return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
