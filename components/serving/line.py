"""The line before the engine: who works, who waits, who is sent away, and how work ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeVar

import anyio
from anyio import to_thread

from components.serving.engine import RequestError
from components.serving.gone import Gone

Item = TypeVar("Item")
_END = object()
SMOOTHING = 0.1  # of the mean time of a job, which says when to come again


class Line:
    """Jobs of an engine, each an iterator in a thread of its own: `at_once` work, others wait.

    A request has one place in it, however many jobs it is made of.
    """

    def __init__(self, at_once: int, longest: int) -> None:
        """longest: how many requests may wait beside those that could be at work."""
        self._at_once, self._longest = at_once, longest
        self._free = asyncio.Semaphore(at_once)
        self._threads = ThreadPoolExecutor(at_once, "engine")
        self._beside = anyio.CapacityLimiter(at_once + longest)
        self._at_work: set[asyncio.Queue] = set()
        self._in_line: set[asyncio.Timeout] = set()
        self._mean_seconds = 0.0
        self.requests = self.waiting = self.running = 0
        self.draining = self._stopped = False

    @contextmanager
    def place(self) -> Iterator[None]:
        """A request's place, until it has been answered.

        Raises:
            RequestError: too many wait, or the server takes no more.
        """
        if self.draining:
            raise _going()
        if self.requests >= self._at_once + self._longest:
            raise RequestError(
                f"{self.requests} requests wait or are at work; come again",
                code="overloaded",
                retry_seconds=self._mean_seconds * self.requests / self._at_once,
            )
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    async def prepared(self, make: Callable[[], Item], deadline: float) -> Item:
        """What `make` gives, in a thread: there is one for every place in line, so that nobody
        waits for another's, and endpoints that have no place keep theirs.

        deadline: in the event loop's time; a thread that comes to it is left to its work.

        Raises:
            RequestError: it came to the deadline, or the server stops.
        """
        async with self._in_time(deadline):
            return await to_thread.run_sync(make, abandon_on_cancel=True, limiter=self._beside)

    async def run(
        self, start: Callable[[Gone], Iterator[Item]], deadline: float
    ) -> AsyncIterator[Item]:
        """The items of the iterator that `start` makes, as they come.

        Closing this, or cancelling who waits for it, stops the work; its place at the engine is
        free when it has stopped. A reader that is slow holds nothing up.

        start: is given what says so at once, before the next item; work that does not listen stops
        after that. deadline: in the event loop's time.

        Raises:
            RequestError: it came to the deadline, or the server stops.
        """
        loop = asyncio.get_running_loop()
        await self._turn(deadline)
        made: asyncio.Queue = asyncio.Queue()
        gone = Gone()
        self._at_work.add(made)
        alarm = loop.call_at(deadline, made.put_nowait, _late())
        job = self._threads.submit(_work, start, gone, _teller(loop, made))
        began = time.monotonic()
        job.add_done_callback(lambda _: _call(loop, self._ended, began))
        try:
            while (item := await made.get()) is not _END:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            gone.set()
            alarm.cancel()
            self._at_work.discard(made)

    async def _turn(self, deadline: float) -> None:
        """Wait until the engine is free, and take it."""
        if self._stopped:
            raise _going()
        self.waiting += 1
        try:
            async with self._in_time(deadline):
                await self._free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1

    @asynccontextmanager
    async def _in_time(self, deadline: float) -> AsyncIterator[None]:
        """Wait for what is in the block no longer than to the deadline, or until `stop`."""
        patience = asyncio.timeout_at(deadline)
        self._in_line.add(patience)
        try:
            async with patience:
                yield
        except TimeoutError:
            if not patience.expired():
                raise
            raise (_going() if self._stopped else _late()) from None
        finally:
            self._in_line.discard(patience)

    def require_time(self, deadline: float) -> None:
        """Refuse to go on behind the deadline, in the event loop's time.

        Raises:
            RequestError: it has come.
        """
        if asyncio.get_running_loop().time() > deadline:
            raise _late()

    def _ended(self, began: float) -> None:
        self.running -= 1
        self._free.release()
        self._mean_seconds += SMOOTHING * (time.monotonic() - began - self._mean_seconds)

    def stop(self) -> None:
        """End what is at work or waits with an error, so that nobody is left without an answer."""
        self._stopped = True
        for made in self._at_work:
            made.put_nowait(_going())
        for patience in self._in_line:
            if not patience.expired():
                patience.reschedule(asyncio.get_running_loop().time())


async def together(
    streams: Sequence[AsyncIterator[Item]], ended: Callable[[], None] = lambda: None
) -> AsyncIterator[tuple[int, Item]]:
    """The items of all `streams` as they come, each with the number of its stream.

    ended: called when all streams have, though items may still wait for a slow reader.
    """
    made: asyncio.Queue = asyncio.Queue()

    async def pull(number: int, stream: AsyncIterator[Item]) -> None:
        try:
            async for item in stream:
                made.put_nowait((number, item))
            made.put_nowait(_END)
        except Exception as error:
            made.put_nowait(error)

    tasks = [asyncio.create_task(pull(*numbered)) for numbered in enumerate(streams)]
    left, working = len(tasks), set(tasks)

    def done(task: asyncio.Task) -> None:
        working.discard(task)
        if not working:
            ended()

    for task in tasks:
        task.add_done_callback(done)
    try:
        while left:
            item = await made.get()
            if isinstance(item, Exception):
                raise item
            if item is _END:
                left -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()


def _work(
    start: Callable[[Gone], Iterator[Item]], gone: Gone, tell: Callable[[object], None]
) -> None:
    """Tell every item, then the end; stop where the reader has left."""
    try:
        items = start(gone)
        try:
            for item in items:
                if gone:
                    return
                tell(item)
        finally:
            if close := getattr(items, "close", None):
                close()
        tell(_END)
    except BaseException as error:  # whatever it is, the reader gets it
        tell(error)


def _teller(loop: asyncio.AbstractEventLoop, made: asyncio.Queue) -> Callable[[object], None]:
    return lambda item: _call(loop, made.put_nowait, item)


def _call(loop: asyncio.AbstractEventLoop, function: Callable, *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop has closed: nobody listens
        loop.call_soon_threadsafe(function, *arguments)


def _late() -> RequestError:
    return RequestError("the answer was not finished in time; ask for less", code="timeout")


def _going() -> RequestError:
    said = "the server is going away; ask again, another one may answer"
    return RequestError(said, code="draining", retry_seconds=5)
