"""The endpoints that ask the engine, and the one that hears what users say of its answers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from components.serving import replies
from components.serving.deployment import Deployment
from components.serving.engine import BASE, Caller, RequestError
from components.serving.errors import documented
from components.serving.fingerprints import digest_of
from components.serving.gateway import Gateway
from components.serving.generation import Answer
from components.serving.generation_schemas import ChatRequest, CompletionRequest, Generation
from components.serving.gone import Gone
from components.serving.replying import EventStream, attended
from components.serving.schemas import ClassifyRequest, FeedbackRequest
from components.serving.wording import require_labels

TEXTS_AT_ONCE = 16  # a client that left is noticed in between
ERRORS = documented(400, 401, 404, 413, 429, 503, 504)
STREAM = {"text/event-stream": {"schema": {}}}


def routes(gateway: Gateway) -> APIRouter:
    """`/v1/completions`, `/v1/chat/completions`, `/v1/classify`, `/v1/feedback`."""
    router = APIRouter(prefix="/v1")

    @router.post(
        "/completions",
        response_model=replies.Completion,
        responses={200: {"content": STREAM}, **ERRORS},
    )
    async def complete(body: CompletionRequest, request: Request) -> Any:
        """Continue a text, or a rendered template."""
        return await _generated(gateway, body, request)

    @router.post(
        "/chat/completions",
        response_model=replies.ChatCompletion,
        responses={200: {"content": STREAM}, **ERRORS},
    )
    async def chat(body: ChatRequest, request: Request) -> Any:
        """Answer a conversation, by the chat template of the base."""
        return await _generated(gateway, body, request)

    @router.post("/classify", response_model=replies.Classification, responses=ERRORS)
    async def classify(body: ClassifyRequest, request: Request) -> Any:
        """Label texts with an adapter, in the wording that it was trained with."""
        return await attended(request, lambda: _classified(gateway, body, request))

    @router.post("/feedback", response_model=replies.Feedback, responses=ERRORS)
    def feedback(body: FeedbackRequest, request: Request) -> Any:
        """Keep what somebody says of an answer of this server. It is on disk when this answers."""
        return _heard(gateway, body, request)

    return router


def deadline(gateway: Gateway) -> float:
    """When a request of this moment must have been answered, in the event loop's time."""
    return asyncio.get_running_loop().time() + gateway.limits.seconds


async def _generated(gateway: Gateway, body: Generation, request: Request) -> Any:
    until = deadline(gateway)
    if not body.stream:
        found = await attended(request, lambda: _whole(gateway, body, request, until))
        # as it is: `logprobs` and the like are OpenAI's, and checking them again costs
        return found if isinstance(found, Response) else JSONResponse(found)
    events = _events(gateway, body, request, until)
    # a refusal comes as a status, before the stream begins: wait in line here
    try:
        first = await attended(request, lambda: anext(events))
    except BaseException:
        await events.aclose()
        raise
    if isinstance(first, Response):
        await events.aclose()
        return first
    return EventStream(first, events, request.state.story)


async def _whole(
    gateway: Gateway, body: Generation, request: Request, until: float
) -> dict[str, Any]:
    with gateway.admitted() as deployment:
        answer = await _prepared(gateway, deployment, body, request, until)
        return await answer.whole(until)


async def _prepared(
    gateway: Gateway, deployment: Deployment, body: Generation, request: Request, until: float
) -> Answer:
    """An answer before its first token. The template that it names may have to be waited for."""
    state = request.state
    make = partial(Answer, gateway, deployment, body, state.story, state.key)
    return await gateway.line.prepared(make, until)


async def _events(
    gateway: Gateway, body: Generation, request: Request, until: float
) -> AsyncIterator[str]:
    """The lines of a stream, none after `until`; its place is free when the engine is done."""
    with ExitStack() as place:
        deployment = place.enter_context(gateway.admitted())
        answer = await _prepared(gateway, deployment, body, request, until)
        async with aclosing(answer.stream(until, place.close)) as lines:
            async for line in lines:
                gateway.line.require_time(until)
                yield line


async def _classified(gateway: Gateway, body: ClassifyRequest, request: Request) -> dict[str, Any]:
    story, texts, until = request.state.story, body.texts, deadline(gateway)
    with gateway.admitted() as deployment:
        key = request.state.key
        deployment.known(body.model, key)
        caller = Caller(key.sha256 if key else "")
        story.model = body.model
        gateway.require("serving.texts", len(texts), gateway.limits.texts, "input", "texts")
        if body.model != BASE:
            inner, most = deployment.inner(body.model), gateway.limits.prompt_tokens
            fitting = partial(require_labels, deployment.engine, inner, texts, most)
            await gateway.line.prepared(fitting, until)
        found = []
        labels = partial(_labels, deployment, body.model, texts, caller)
        work = gateway.line.run(labels, until)
        async with aclosing(work) as parts:
            async for part in parts:
                found += part
        marked = partial(gateway.fingerprint, deployment, body.model)
        story.fingerprint = await gateway.line.prepared(marked, until)
    story.answer = gateway.fingerprints.answer_id("cls", story.fingerprint)
    results = [{"label": max(p, key=p.__getitem__), "probabilities": p} for p in found]
    story.asked, story.answered = {"input": texts}, [each["label"] for each in results]
    gateway.memory.keep(story.answer, story.asked, story.answered)
    return {
        "id": story.answer,
        "object": "classification",
        "model": body.model,
        "results": results,
        "system_fingerprint": f"fp_{story.fingerprint}",
    }


def _labels(
    deployment: Deployment, model: str, texts: list[str], caller: Caller, gone: Gone
) -> Iterator[list[dict]]:
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        part = texts[first : first + TEXTS_AT_ONCE]
        asked = replace(caller, gone=gone)
        yield deployment.engine.classify(deployment.inner(model), part, asked)


def _heard(gateway: Gateway, body: FeedbackRequest, request: Request) -> dict[str, Any]:
    digest = digest_of(body.id)
    record = gateway.fingerprints.record(digest) if digest else None
    model = ((record or {}).get("adapter") or (record or {}).get("base") or {}).get("name", "")
    key = request.state.key
    if record is None or not gateway.fingerprints.gave(body.id) or (key and not key.allows(model)):
        raise RequestError(f"no answer of this server has the id '{body.id}'", "id", "not_found")
    said = body.model_dump(exclude_none=True)
    kept = gateway.feedback.add(
        {
            **said,
            "fingerprint": digest,
            "model": model,
            "key": key.name if key else None,
            **gateway.memory.of(body.id),
        }
    )
    for kind in said.keys() - {"id"}:
        gateway.figures.feedback.labels(kind).inc()
    story = request.state.story
    story.model, story.fingerprint = model, digest
    return {**{k: kept[k] for k in (*said, "fingerprint", "model", "time")}, "object": "feedback"}
