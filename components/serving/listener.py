"""uvicorn as this server wants it: it drains at SIGTERM and waits for no header for ever."""

import asyncio
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from components.serving.gateway import Gateway
from components.serving.logs import log

HEADER_SECONDS = 10  # from a connection to its first request
CLOSING_SECONDS = 3  # for what is written already to reach its client


class PatientProtocol(H11Protocol):
    """Closes a connection on which no request comes."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.loop.call_later(HEADER_SECONDS, self._require_request)

    def _require_request(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class Listener(uvicorn.Server):
    """At the first signal it takes no more work (503), lets answers at work finish within the
    grace time, ends the others with an error, and goes. At the second it goes at once.
    """

    def __init__(self, app: Any, gateway: Gateway, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=PatientProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                log_level="warning",
                timeout_graceful_shutdown=CLOSING_SECONDS,
            )
        )
        self._gateway = gateway
        self._until: float | None = None

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
