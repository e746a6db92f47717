"""Keys and values in blocks: who uses which, what may be shared, what goes when room is short.

A row's positions lie in blocks of 16, which its line of `tables` names in order. Blocks that hold a
known beginning (virtual tokens, a template's head, the first tokens of a prompt) are kept under a
key of all that their values depend on, and the next row with that beginning takes them as they are:

    prompt    [soft prompt, 20 tokens][prompt, 30 tokens]
    blocks    A: 0-15  | B: 16-31 | C: 32-47 | D: 48-63
    shared    A by all rows behind this soft prompt; its end, positions 16-19, is kept as a copy
              (block T, 4 positions), from which each row's own B begins
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from components.inference.attention_kernel import BLOCK


class Holds(Protocol):
    """Where the keys and values of so many blocks lie."""

    blocks: int

    def copy(self, source: int, target: int) -> None:
        """One block into another, in all layers; a row reads no further than it has written."""

    def write(self, block: int, past: np.ndarray) -> None:
        """Keys and values of a block's first positions: (layers, 2, key heads, positions, size)."""


Held = TypeVar("Held", bound=Holds)


class Pool(Generic[Held]):
    """The blocks of one decoder, never more than its store has.

    tables: (rows, blocks of a row), int32: which block holds a row's positions.
    """

    def __init__(self, store: Held, rows: int, context: int) -> None:
        self.block, self.store, self.blocks = BLOCK, store, store.blocks
        blocks = store.blocks
        self.tables = np.zeros((rows, -(-context // BLOCK)), np.int32)
        self._free = list(range(blocks - 1, -1, -1))
        self._uses = [0] * blocks
        self._by_key: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # kept, used by none; the oldest first
        self.hits = self.misses = self.evictions = 0  # positions, positions, blocks

    def available(self) -> int:
        """How many blocks can be had: free ones, and kept ones that none uses."""
        return len(self._free) + len(self._idle)

    def kept(self, key: bytes) -> int | None:
        """The block that is kept under a key."""
        return self._by_key.get(key)

    def is_idle(self, block: int) -> bool:
        return block in self._idle

    def use(self, block: int) -> None:
        """One more row uses a kept block."""
        self._uses[block] += 1
        self._idle.pop(block, None)

    def take(self) -> int:
        """A block of one's own, used once: a free one, or the one unused for longest.

        Only after `available` said that there is one.
        """
        if not self._free:
            oldest, _ = self._idle.popitem(last=False)
            del self._by_key[self._keys.pop(oldest)]
            self._free.append(oldest)
            self.evictions += 1
        block = self._free.pop()
        self._uses[block] = 1
        return block

    def leave(self, blocks: Sequence[int]) -> None:
        """A row uses them no more; those with a key are kept until room is short."""
        for block in reversed(blocks):  # the end of a beginning is useless without what leads to it
            self._uses[block] -= 1
            if self._uses[block]:
                continue
            if block in self._keys:
                self._idle[block] = None
            else:
                self._free.append(block)

    def keep(self, key: bytes, block: int) -> None:
        """Keep a block, filled for good, under a key; the first one stays where there are two."""
        if key not in self._by_key:
            self._by_key[key] = block
            self._keys[block] = key

    def keep_copy(self, key: bytes, block: int) -> None:
        """Keep a copy of a block that will be filled on; not if room is short."""
        if key in self._by_key or not self.available():
            return
        copied = self.take()
        self.store.copy(block, copied)
        self.keep(key, copied)
        self.leave([copied])

    def forget(self) -> None:
        """Keep no block that is not in use."""
        for block in self._idle:
            del self._by_key[self._keys.pop(block)]
            self._free.append(block)
        self._idle.clear()
