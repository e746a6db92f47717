"""What is told of a request once it has ended: to the figures, the log, and MLflow's traces."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass
class Story:
    """One request, filled while it is answered.

    endpoint: the route that answered, `none` for a path that has none. refused: the code of the
    error. begun: whether the client was told a status. key: the name of the API key. asked,
    answered: texts; only a listener that was told to keeps them.
    """

    request: str
    method: str
    path: str
    endpoint: str = "none"
    key: str | None = None
    model: str = ""
    status: int = 500
    begun: bool = False
    refused: str | None = None
    answer: str | None = None  # its id
    fingerprint: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token_seconds: float | None = None
    seconds: float = 0.0
    asked: Any = None
    answered: Any = None
    started: float = field(default_factory=time.monotonic)

    def first_token(self) -> None:
        """Note that a token is there, if it is the first."""
        if self.first_token_seconds is None:
            self.first_token_seconds = time.monotonic() - self.started


class Listener(Protocol):
    """Is told of every request, in the event loop: it must not wait."""

    def __call__(self, story: Story) -> None: ...
