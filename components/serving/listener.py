"""uvicorn as this server wants it: it drains at SIGTERM and waits for no header for ever."""

import asyncio
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from components.serving.errors import failure
from components.serving.gateway import Gateway
from components.serving.logs import log

HEADER_SECONDS = 10  # for a request to come: its header, or what is left of one that was refused
WRITE_SECONDS = 30  # in which a client must take something of what waits for it
CROWDED_SECONDS = 1  # until a connection too many may try again
CLOSING_SECONDS = 3  # for what is written already to reach its client


class PatientProtocol(H11Protocol):
    """Closes a connection on which no request comes, drops one whose client reads nothing, and
    refuses one too many.

    uvicorn has a timer of its own between requests, but any byte stops it. A body that comes after
    its request was refused is read all the same, for so long: closed at once, the connection would
    be reset, and the refusal with it. A connection that is closed while something waits to be sent
    stays open until it is sent, for ever where nobody reads: such a one is aborted.
    """

    def __init__(self, most: int, **given: Any) -> None:
        """most: connections that may be open at once."""
        super().__init__(**given)
        self._most = most
        self._patience: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        # writing is paused whenever the system takes no more: `pause_writing` begins to wait then
        transport.set_write_buffer_limits(0)
        if len(self.connections) > self._most:
            transport.write(_one_too_many(self._most))
            transport.close()
            return
        self._await_request()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._is_at_work():
            self._stop_waiting()
        elif self._patience is None:
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_watching()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        self._stop_watching()
        super().resume_writing()

    def _watch_reader(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(WRITE_SECONDS, self._require_reader, left)

    def _stop_watching(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _require_reader(self, before: int) -> None:
        """before: bytes that waited to be sent; while they do, uvicorn writes no more of them."""
        if self.transport.get_write_buffer_size() < before:
            self._watch_reader()
        else:
            self.transport.abort()

    def _is_at_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_request(self) -> None:
        self._patience = self.loop.call_later(HEADER_SECONDS, self._require_request)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _require_request(self) -> None:
        self._patience = None
        if not self._is_at_work() and not self.transport.is_closing():
            self.transport.close()


def _one_too_many(most: int) -> bytes:
    """The answer to a connection over the limit, which is not read."""
    said = f"{most} connections are open, the most that this server takes (serving.connections)"
    answer = failure(429, f"{said}; come again", None, "overloaded", CROWDED_SECONDS)
    head = [f"{name}: {value}" for name, value in answer.headers.items()]
    lines = ["HTTP/1.1 429 Too Many Requests", *head, "connection: close", "", ""]
    return "\r\n".join(lines).encode() + answer.body


class Listener(uvicorn.Server):
    """At the first signal it takes no more work (503), lets answers at work finish within the
    grace time, ends the others with an error, and goes. At the second it goes at once.
    """

    def __init__(
        self,
        app: Any,
        gateway: Gateway,
        host: str,
        port: int,
        ready: Callable[[int], None] = lambda port: None,
    ) -> None:
        """port: 0 for any. ready: called with the port as soon as it listens."""
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=partial(PatientProtocol, gateway.limits.connections),
                ws="none",
                log_config=None,
                access_log=False,
                log_level="warning",
                timeout_graceful_shutdown=CLOSING_SECONDS,
            )
        )
        self._gateway, self._ready = gateway, ready
        self._until: float | None = None

    @property
    def port(self) -> int:
        """The one that it listens on."""
        return self.servers[0].sockets[0].getsockname()[1]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready(self.port)

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self._until is not None:
            super().handle_exit(sig, frame)
            return
        self._captured_signals.append(sig)
        self.drain()

    def drain(self) -> None:
        """Begin to go away."""
        self._gateway.line.draining = True
        self._until = time.monotonic() + self._gateway.limits.grace_seconds

    async def on_tick(self, counter: int) -> bool:
        line = self._gateway.line
        if self._until is not None and not self.should_exit:
            late = time.monotonic() >= self._until
            if late and line.requests:
                log.warning("ended %d requests: the grace time is over", line.requests)
                line.stop()
            # an answer that is made may still be on its way to a slow reader
            self.should_exit = late or not (line.requests or self.server_state.tasks)
        return await super().on_tick(counter)
