"""The thread on which the batchers of an engine take their steps, in turns.

Kernels and products run on a crew of threads that belongs to the thread which calls them (see
`threads`). Crews that together are larger than the processor make each other slow, so all decoders
of an engine share one.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

import torch


class Takes(Protocol):
    """Who takes turns. busy: there is something to do; turn: do some of it, and never raise."""

    @property
    def busy(self) -> bool: ...

    def turn(self) -> None: ...


class Turns:
    """Each who is busy does a part of its work, then the next; between two, what was told."""

    def __init__(self) -> None:
        self._told: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._all: list[Takes] = []
        self._open = True
        self._thread = threading.Thread(target=self._run, name="turns", daemon=True)
        self._thread.start()

    def tell(self, act: Callable[[], None]) -> None:
        """Have `act` done on the thread, which must not raise, behind all that was told before."""
        self._told.put(act)

    def join(self, one: Takes) -> None:
        """Have `one` take turns from now on."""
        self.tell(lambda: self._all.append(one))

    def leave(self, one: Takes) -> None:
        """No turn for `one` any more, once this returns; nor where the thread has ended."""
        left = threading.Event()

        def go() -> None:
            if one in self._all:
                self._all.remove(one)
            left.set()

        self.tell(go)
        while self._thread.is_alive() and not left.wait(0.1):
            continue

    def close(self) -> None:
        """End the thread; who takes turns should have left."""
        self.tell(self._stop)
        self._thread.join()

    def _stop(self) -> None:
        self._open = False

    def _run(self) -> None:
        with torch.inference_mode():
            while self._open:
                self._listen()
                for one in self._all:
                    if one.busy:
                        one.turn()

    def _listen(self) -> None:
        """Do what was told; wait for it where there is nothing else to do."""
        while self._open and not (self._told.empty() and any(one.busy for one in self._all)):
            self._told.get()()
