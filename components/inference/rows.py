"""The rows of a batch: who stands where, and how far each has been read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch

from components.inference.attention_kernel import BLOCK
from components.inference.blocks import Pool
from components.inference.choice_kernel import CHOOSE
from components.inference.request import Choosing, Request
from components.inference.threads import Bound

Given = TypeVar("Given")


@dataclass
class Row:
    """A request at its place. read: positions whose keys and values are in the pool."""

    request: Request
    number: int
    blocks: list[int] = field(default_factory=list)
    read: int = 0
    made: int = 0
    features: list[torch.Tensor] = field(default_factory=list)  # of a reading, (places, width)


def begin(pool: Pool, request: Request, number: int) -> Row | None:
    """Give a request its blocks, its known beginning among them; None while there is no room."""
    known, end = _known(pool, request)
    if end is not None and not _fits(pool, request, [*known, end[0]], len(known)):
        end = None  # which is read again: its block may be the last one that the request needs
    if not _fits(pool, request, known, len(known)):
        return None
    used = known if end is None else [*known, end[0]]  # or `take` might give the end away
    for block in used:
        pool.use(block)
    row = Row(request, number, list(known), len(known) * BLOCK)
    row.blocks += [pool.take() for _ in range(request.blocks - len(known))]
    try:
        pool.tables[number, : len(row.blocks)] = row.blocks
        if end is not None:
            pool.store.copy(end[0], row.blocks[len(known)])
            row.read += end[1]
        pool.hits += row.read
        _write_past(pool, row)
        pool.misses += request.length - row.read
    except BaseException:
        pool.leave(row.blocks)
        raise
    finally:
        pool.leave(used[len(known) :])
    return row


def _fits(pool: Pool, request: Request, used: list[int], known: int) -> bool:
    """Whether there are blocks for all but the `known` first, while those of `used` must stay."""
    idle = sum(pool.is_idle(block) for block in used)
    return request.blocks - known <= pool.available() - idle


def _known(pool: Pool, request: Request) -> tuple[list[int], tuple[int, int] | None]:
    """The kept blocks that a request begins with; the end behind them: its block and positions."""
    known: list[int] = []
    unread = request.must_read()
    for key in request.beginning.full[: unread // BLOCK]:
        block = pool.kept(key)
        if block is None:
            break
        known.append(block)
    count, key = request.beginning.ends.get(len(known), (0, b""))
    block = pool.kept(key)
    if block is None or len(known) * BLOCK + count > unread:
        return known, None
    return known, (block, count)


def next_key(pool: Pool, request: Request) -> bytes | None:
    """The key of the first block that a request would have to fill and others could use."""
    for key in request.beginning.full:
        if pool.kept(key) is None:
            return key
    return None


def _write_past(pool: Pool, row: Row) -> None:
    """Keys and values that an adapter holds, where the cache does not have them yet."""
    past = row.request.virtual.past
    if past is None or row.read >= past.shape[3]:
        return
    before = row.read // BLOCK  # blocks of others
    for number in range(before, -(-past.shape[3] // BLOCK)):
        first = number * BLOCK
        pool.store.write(row.blocks[number], past[:, :, :, first : first + BLOCK])
    keep(pool, row, before * BLOCK, past.shape[3])
    row.read = past.shape[3]


def keep(pool: Pool, row: Row, start: int, stop: int) -> None:
    """Keep what positions `start` to `stop` have filled for rows with the same beginning."""
    beginning = row.request.beginning
    for number in range(start // BLOCK, min(stop // BLOCK, len(beginning.full))):
        pool.keep(beginning.full[number], row.blocks[number])
    for number, (count, key) in beginning.ends.items():
        if start < number * BLOCK + count <= stop:
            pool.keep_copy(key, row.blocks[number])


def places(row: Row, start: int, stop: int) -> list[int]:
    """The positions of a reading between `start` and `stop` whose features are asked for."""
    shift = row.request.virtual.count
    return [n + shift for n in row.request.wanted.places if start <= n + shift < stop]


def finish(row: Row) -> object:
    """What a reading comes to; an exception where that fails, which is its own affair."""
    try:
        return row.request.wanted.finish(torch.cat(row.features))
    except Exception as error:
        return error


def failure(act: Callable[[Given], None], given: Given) -> Exception | None:
    """What a constraint's `mask` or `take` fails with, which is its row's own affair."""
    try:
        act(given)
    except Exception as error:
        return error
    return None


class Chooser:
    """How each row's tokens are chosen, as the kernel reads it."""

    def __init__(self, logits: torch.Tensor) -> None:
        """logits: where they will be written, (rows, vocabulary), on the host."""
        rows, vocabulary = logits.shape
        self.numbers = np.ones((rows, 4), np.float32)
        self.settings = np.zeros((rows, 3), np.int64)
        self.steps = np.zeros(rows, np.int32)
        self.seen = np.zeros((rows, vocabulary), np.uint8)
        self.masks = np.zeros((rows, -(-vocabulary // 32)), np.int32)
        self.tokens, self.logprobs = np.zeros(rows, np.int32), np.zeros(rows, np.float32)
        self._rows = np.zeros(rows, np.int32)
        self._threads = torch.get_num_threads()  # of this thread; the batcher's may have more
        self._weights = np.zeros((self._threads, vocabulary), np.float32)
        self._logits = logits
        self._choose = Bound(
            CHOOSE,
            self._logits.numpy(),
            vocabulary,
            self._rows,
            self.numbers,
            self.settings,
            self.steps,
            self.seen,
            self.masks,
            self.masks.shape[1],
            self.tokens,
            self.logprobs,
            self._weights,
        )

    def admit(self, number: int, ids: np.ndarray, wanted: Choosing) -> None:
        told = (wanted.temperature, wanted.top_p, wanted.min_p, wanted.penalty)
        self.numbers[number] = told
        seed = np.uint64(wanted.seed % 2**64).astype(np.int64)
        self.settings[number] = (seed, wanted.top_k, wanted.constraint is not None)
        self.steps[number] = 0
        self.seen[number] = 0
        self.seen[number, ids] = 1

    def logits(self, count: int) -> torch.Tensor:
        """Where the logits of `count` rows are to be written, (count, vocabulary)."""
        return self._logits[:count]

    def choose(self, rows: np.ndarray) -> None:
        """`tokens` and `logprobs` of those rows, of `logits`, and a step on."""
        count = len(rows)
        self._rows[:count] = rows
        self._choose(count, min(self._threads, torch.get_num_threads()))
        self.steps[rows] += 1
        self.seen[rows, self.tokens[:count]] = 1
