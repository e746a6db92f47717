"""What is asked of a batcher: tokens to write, or features of tokens to read."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from components.inference.attention_kernel import BLOCK
from components.inference.virtual import NONE, Virtual

if TYPE_CHECKING:
    import torch


HEADS = 1024  # shared beginnings whose keys are remembered


class TooLarge(ValueError):
    """A request needs more room than there is in all."""


class GaveUp(ValueError):
    """An answer cannot be held to its constraint any further."""


class Constraint(Protocol):
    """What an answer may be: a mask of tokens for each step.

    Raises:
        GaveUp: from then on it cannot say what may come.
    """

    def mask(self, words: np.ndarray) -> None:
        """Set the bit of each token that may come next, in `words`, int32."""

    def take(self, token: int) -> None:
        """That token came."""


@dataclass(frozen=True)
class Choosing:
    """How tokens are chosen. limit: how many at most; ends: the tokens that end the answer.

    temperature 0 is greedy. top_k 0, top_p 1, min_p 0 and penalty 1 leave the distribution as it
    is. seed: of this request's own generator; top: alternatives that are told with each token.
    """

    limit: int
    ends: frozenset[int]
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    penalty: float = 1.0
    seed: int = 0
    top: int = 0
    constraint: Constraint | None = None


@dataclass(frozen=True)
class Reading:
    """Features of the tokens at `places` (ascending), of which `finish` makes the answer.

    finish: (places, width) to anything; called in the batcher's thread, its threads free.
    """

    places: Sequence[int]
    finish: Callable[["torch.Tensor"], Any]


class Made(NamedTuple):
    """A token as it was chosen. logprob: natural log, before temperature and filters."""

    token: int
    logprob: float
    alternatives: dict[int, float]


@dataclass(eq=False)
class Request:
    """Tokens behind virtual tokens and under a delta.

    tokens: the ids, int32. root: the key of all that keys and values depend on beside tokens.
    shared: how many tokens of the beginning all tenants share, as a template's head. answers: what
    was made, `Made` by `Made` and then None, or what `Reading.finish` gave; an exception where it
    failed.
    """

    ids: Sequence[int]
    wanted: Choosing | Reading
    root: bytes = b""
    virtual: Virtual = NONE
    slot: int = 0
    tenant: str = ""
    shared: int = 0
    answers: SimpleQueue = field(default_factory=SimpleQueue)

    def __post_init__(self) -> None:
        self.tokens = np.array(self.ids, np.int32)
        self.length = self.virtual.count + len(self.ids)
        self.limit = self.wanted.limit if isinstance(self.wanted, Choosing) else 0
        self.beginning = Beginning(self)

    @property
    def blocks(self) -> int:
        """Blocks for all of its positions; the last token that is written is read by none."""
        return max(1, -(-(self.length + max(self.limit - 1, 0)) // BLOCK))

    def must_read(self) -> int:
        """The first position whose features are asked for, so that no cache can stand for it."""
        if isinstance(self.wanted, Reading):
            return self.virtual.count + self.wanted.places[0]
        return self.length - 1


class Beginning:
    """The keys of a prompt's blocks: each of all before it, so that equal keys mean equal values.

    full: of its filled blocks in order. ends: where a shared beginning ends within a block, the
    number of positions in that block and their key, by the block's number.
    """

    def __init__(self, request: Request) -> None:
        virtual = request.virtual.count
        public = virtual + request.shared
        items = np.concatenate([np.arange(-virtual, 0, dtype=np.int32), request.tokens])
        common, self.ends = _common(request.root, items[:public].tobytes(), virtual)
        self.full = list(common)
        first, blocks = len(common), len(items) // BLOCK
        if first == blocks:
            return
        before = common[-1] if common else request.root
        key = _key(before, b"", b"of", request.tenant.encode())
        for block in items[first * BLOCK : blocks * BLOCK].reshape(-1, BLOCK):
            key = _key(key, block.tobytes())
            self.full.append(key)


@lru_cache(HEADS)  # the same with each request, and half of what a request costs before its step
def _common(
    root: bytes, items: bytes, virtual: int
) -> tuple[tuple[bytes, ...], dict[int, tuple[int, bytes]]]:
    """As `Beginning` has them, of what all tenants share: int32 items, virtual ones first."""
    size = 4 * BLOCK
    keys = [root]
    for first in range(0, len(items) - size + 1, size):
        keys.append(_key(keys[-1], items[first : first + size]))
    ends: dict[int, tuple[int, bytes]] = {}
    for border in (virtual, len(items) // 4):
        number, count = divmod(border, BLOCK)
        if count:
            ends[number] = (count, _key(keys[number], items[number * size : border * 4], b"end"))
    return tuple(keys[1:]), ends


def _key(before: bytes, items: bytes, *more: bytes) -> bytes:
    digest = hashlib.sha256(before)
    digest.update(items)
    for part in more:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()
