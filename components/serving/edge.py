"""What happens to every request before and after its endpoint: id, key, size, pace, its story."""

import asyncio
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.serving.engine import RequestError
from components.serving.errors import failure, log, refusal
from components.serving.gateway import Gateway
from components.serving.invalid import shown
from components.serving.keys import Key, is_loopback
from components.serving.story import Story

READ_SECONDS = 30  # for a client to send its body
COUNTED = re.compile(r"^/v1/inspect/")  # GETs that are work, as POSTs are
OPEN = re.compile(r"^/($|(health|openapi\.json|playground)(/|$))")  # without a key
PORT = re.compile(r":\d*$")  # of a Host header
REQUEST_ID = re.compile(r"^[\w.:-]{1,64}$")


class Edge:
    """The outermost of the application."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self.app, self.gateway = app, gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        story = Story(_request_id(headers), scope["method"], scope["path"])
        scope.setdefault("state", {})["story"] = story
        noted = _noted(send, story)
        try:
            await self._answer(scope, receive, noted, headers)
        except Exception:
            story.refused = "broken"
            log.exception("an answer failed", extra={"told": {"request": story.request}})
            if story.begun:
                raise  # too late for another answer: the connection ends
            await failure(500, "the server failed; its log says why")(scope, receive, noted)
        finally:
            story.seconds = time.monotonic() - story.started
            story.endpoint = getattr(scope.get("route"), "path", "none")
            for tell in self.gateway.listeners:
                tell(story)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        story = scope["state"]["story"]
        try:
            key = scope["state"]["key"] = self._key(scope, headers)
            story.key = key.name if key else None
            self._require_size(int(headers.get("content-length") or 0))
        except RequestError as error:
            story.refused = error.code
            await refusal(error)(scope, receive, send)
            return
        await self.app(scope, self._paced(receive), send)

    def _key(self, scope: Scope, headers: Headers) -> Key | None:
        """Whose request it is; None where nobody has to say.

        Raises:
            RequestError: no key, an unknown one, or one that has asked too often; or, where nobody
                needs one, a server of another name was asked.
        """
        if not self.gateway.keys.required():
            _require_own_name(headers.get("host", ""))
            return None
        if OPEN.match(scope["path"]):
            return None
        kind, _, presented = headers.get("authorization", "").partition(" ")
        key = self.gateway.keys.find(presented.strip()) if kind.lower() == "bearer" else None
        if key is None:
            raise RequestError(
                "this server wants an API key: 'Authorization: Bearer kd-...'; make one with "
                "'kindling keys add NAME'"
                if not presented
                else "this API key is unknown here",
                code="invalid_key",
            )
        counted = scope["method"] == "POST" or COUNTED.match(scope["path"])
        if counted and (wait := self.gateway.rates.wait(key, time.monotonic())):
            raise RequestError(
                f"key '{key.name}' has asked too often; again in {wait:.1f} s",
                code="rate_limited",
                retry_seconds=wait,
            )
        return key

    def _require_size(self, size: int) -> None:
        most = self.gateway.limits.body_bytes
        if size > most:
            raise RequestError(f"a body of {size} bytes; at most {most}", code="too_large")

    def _paced(self, receive: Receive) -> Receive:
        """`receive` that refuses a body that is too large or too slow, whatever was announced."""
        read, until, more = 0, time.monotonic() + READ_SECONDS, True

        async def paced() -> Message:
            nonlocal read, more
            if not more:
                return await receive()
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"no whole body within {READ_SECONDS} s") from None
            read += len(message.get("body", b""))
            more = message.get("more_body", False)
            if read > self.gateway.limits.body_bytes:
                most = self.gateway.limits.body_bytes
                raise HTTPException(413, f"a body of more than {most} bytes")
            return message

        return paced


def _noted(send: Send, story: Story) -> Send:
    """`send` that notes the status, and names the request."""

    async def noted(message: Message) -> None:
        if message["type"] == "http.response.start":
            story.status, story.begun = message["status"], True
            MutableHeaders(scope=message)["X-Request-Id"] = story.request
        await send(message)

    return noted


def _require_own_name(host: str) -> None:
    """Refuse to be asked under another name than those of this machine.

    A site may let its own name point here (DNS rebinding). Its pages then ask this server as their
    own, and a browser lets them read what it says.
    """
    name = PORT.sub("", host).strip("[]")
    if not is_loopback(name):
        raise RequestError(
            f"Host is {shown(host)}; without API keys this server is asked as localhost, 127.0.0.1 "
            "or [::1] alone; make a key with 'kindling keys add NAME'",
            code="forbidden",
        )


def _request_id(headers: Headers) -> str:
    """The client's own, where it is fit for a log."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.match(given) else uuid.uuid4().hex
