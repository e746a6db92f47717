"""Whether somebody still waits for an answer; who works at it is told at once where not."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Left(Exception):
    """The work was given up because nobody waits for it; nobody is there to hear of this."""


class Gone:
    """True once who asked has left, or has waited for too long. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._calls: dict[object, Callable[[], None]] = {}

    def __bool__(self) -> bool:
        return self._set

    def set(self) -> None:
        """Nobody waits any more: make every call that was asked for."""
        with self._lock:
            self._set, calls, self._calls = True, self._calls, {}
        for call in calls.values():  # without the lock: they may take one of their own
            call()

    @contextmanager
    def calls(self, call: Callable[[], None]) -> Iterator[None]:
        """Within the block, `call` is made when nobody waits any more; at once if that is so.

        It must not wait, and may come a moment after the block.
        """
        mark = object()
        with self._lock:
            late = self._set
            if not late:
                self._calls[mark] = call
        if late:
            call()
        try:
            yield
        finally:
            with self._lock:
                self._calls.pop(mark, None)
