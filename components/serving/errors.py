"""Errors in OpenAI's shape, from wherever they come."""

import json
import logging
import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from components.serving.engine import RequestError
from components.serving.invalid import described, unread
from components.serving.replies import ErrorReply

STATUS = {
    "invalid_key": 401,
    "forbidden": 403,
    "not_found": 404,
    "model_not_found": 404,
    "too_slow": 408,
    "too_large": 413,
    "overloaded": 429,
    "rate_limited": 429,
    "model_unavailable": 503,
    "registry_unavailable": 503,
    "draining": 503,
    "timeout": 504,
}
KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "timeout_error",
}
OF_BODIES = {STATUS[code]: code for code in ("too_slow", "too_large")}  # that are being read
SHORTEST_RETRY = 1  # second
DOCUMENTED = {
    400: "The request is wrong: the message names the field and its value.",
    401: "No key, or one that is unknown or was revoked.",
    404: "No such model, template or answer, or none that this key may see.",
    413: "The body is too large.",
    429: "Too many requests wait, or this key has asked too often: see Retry-After.",
    503: "The model is unavailable, or the server is going away: see the message.",
    504: "The answer was not finished in time.",
}
log = logging.getLogger("kindling.server")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of an endpoint, for the OpenAPI document."""
    return {status: {"model": ErrorReply, "description": DOCUMENTED[status]} for status in statuses}


def error_body(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    kind = KINDS.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def failure(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    retry_seconds: float | None = None,
) -> Response:
    """An error as a response."""
    body = json.dumps(error_body(status, message, param, code), ensure_ascii=False)
    headers = {}
    if retry_seconds is not None:
        headers["Retry-After"] = str(max(SHORTEST_RETRY, math.ceil(retry_seconds)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    # a message may quote half a surrogate pair, which JSON can write and UTF-8 cannot
    content = body.encode("utf-8", "replace")
    return Response(content, status, headers, media_type="application/json")


def refusal(error: RequestError) -> Response:
    """A `RequestError` as a response."""
    status = STATUS.get(error.code, 400)
    return failure(status, str(error), error.param, error.code, error.retry_seconds)


def install(app: FastAPI) -> None:
    """Answer what `app` refuses in that shape.

    Any other error is a fault of the server's own, whose words are for its log: `Edge` answers it.
    """

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> Response:
        _note(request, error.code)
        return refusal(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        _note(request, "invalid_value")
        message, field = described(error, request.headers.get("content-type"))
        return failure(400, message, field, "invalid_value")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        code = OF_BODIES.get(error.status_code)
        _note(request, code or "invalid_request")
        said = unread(error.__cause__) or str(error.detail)
        answer = failure(error.status_code, said, code=code)
        answer.headers.update(error.headers or {})
        return answer


def _note(request: Request, reason: str) -> None:
    request.state.story.refused = reason
