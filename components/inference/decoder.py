"""The forward pass of a decoder over the tokens of many requests at once.

A step reads a flat list of tokens, in which a request has one (it writes its answer) or many (its
prompt is read). What tells requests apart is three numbers for each token:

    token      row  position  slot
    " good"     0      37       0      the base; its row's blocks hold positions 0 to 36
    " film"     1      52       3      slot 3: a low-rank delta, added beside the shared product
    "Review"    2      16       0      first token behind a soft prompt of 16 virtual tokens,
    ":"         2      17       0      whose keys and values lie in blocks that other rows share

so that one product serves all rows, and only attention and deltas look at the numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from components.inference.attention_kernel import ATTEND, PLACE, room
from components.inference.blocks import Pool
from components.inference.checkpoint import SITES, Shape
from components.inference.delta_kernel import ADD_DELTAS, MOST_LOW
from components.inference.kernels import ADD_AND_NORM, GATE
from components.inference.registers import LANES
from components.inference.slots import Slots
from components.inference.store import Store
from components.inference.threads import Bound, set_crew
from components.inference.tiles import ROWS
from components.inference.weights import Layer, Weights

SHARE = 8_000_000  # of a step, in FLOP, for each thread; see `python bench/crews.py`
LIGHT = 1 << 14  # numbers; norms and gates of fewer are done before a second thread has heard of it


@dataclass
class Step:
    """What a step reads; arrays have a place for each token, int32.

    tokens: ids; vectors: (place, vectors) of virtual tokens, which stand in for those ids.
    rows, positions, slots: as drawn above, 0 for no delta; a row's tokens follow each other.
    wanted: places whose next token is asked for.
    """

    tokens: np.ndarray
    rows: np.ndarray
    positions: np.ndarray
    slots: np.ndarray
    wanted: np.ndarray
    vectors: list[tuple[int, np.ndarray]]


class Told(NamedTuple):
    """What kernels were told. count: tokens; tiles: of one row; deltas: tiles with one delta.

    light: the threads of small kernels, 0 for all; buffers: as many lines of each as tokens.
    """

    count: int
    tiles: int
    deltas: int
    light: int
    buffers: Mapping[str, torch.Tensor]


def of_token(shape: Shape) -> dict[str, int]:
    """The buffers of a pass, by how many numbers each has of a token; see `FLOW`."""
    return {
        "stream": shape.width,
        "made": shape.width,
        "normed": shape.width,
        "qkv": (shape.heads + 2 * shape.key_heads) * shape.size,
        "attended": shape.heads * shape.size,
        "gate_up": 2 * shape.feed_forward,
        "gated": shape.feed_forward,
    }


def tiles(*values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of equal values, none longer than ROWS: where each begins, and how long it is."""
    places = np.arange(len(values[0]))
    begins = np.zeros(len(places), bool)
    begins[:1] = True
    for held in values:
        begins[1:] |= held[1:] != held[:-1]
    within = places - np.maximum.accumulate(np.where(begins, places, 0))
    firsts = np.flatnonzero(within % ROWS == 0)
    return firsts, np.diff(firsts, append=len(places))


def alone_last(firsts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tiles in the order that attention wants: those of one token behind the others."""
    order = np.argsort(counts == 1, kind="stable")
    return firsts[order], counts[order]


class Decoder:
    """Weights with buffers for the largest step, bound to a pool and a table of deltas."""

    def __init__(self, weights: Weights, pool: Pool[Store], slots: Slots, most: int) -> None:
        """most: tokens of a step."""
        self.weights, self.pool, self.slots, self.most = weights, pool, slots, most
        shape = weights.shape
        # the last tile may reach over the end
        lines = most + ROWS
        self.buffers = {name: torch.zeros(lines, size) for name, size in of_token(shape).items()}
        names = ("rows", "positions", "firsts", "counts", "of_delta", "deltas", "slots")
        self.told = {name: np.zeros(most, np.int32) for name in names}
        products = (held for layer in weights.layers for held in layer.products.values())
        self._work = 2 * sum(held.inputs * held.ends[-1] for held in products)  # of a token
        self._threads = threads = torch.get_num_threads()
        self._low = np.zeros((most, ROWS, MOST_LOW), np.float32)
        # a register more than a row has positions: lines 4 KiB apart share places in the cache
        length = pool.tables.shape[1] * pool.block + LANES
        self._scores = np.zeros((threads, ROWS, length), np.float32)
        self._sums = np.zeros((threads, ROWS + 1, 2 * LANES), np.float32)
        self._eps = np.array([shape.eps], np.float32)
        self._gate = Bound(GATE, self._array("gate_up"), self._array("gated"), shape.feed_forward)
        self._layers = [self._bind(number) for number in range(shape.layers)]
        self._last = self._norm(weights.last_norm)

    def _array(self, name: str) -> np.ndarray:
        return self.buffers[name].numpy()

    def _norm(self, weight: torch.Tensor) -> Bound:
        arrays = (self._array("stream"), self._array("made"), weight.numpy(), self._array("normed"))
        return Bound(ADD_AND_NORM, *arrays, self.weights.shape.width, self._eps)

    def _bind(self, number: int) -> dict[str, Bound]:
        layer, shape, told = self.weights.layers[number], self.weights.shape, self.told
        sizes = (shape.heads, shape.key_heads, shape.size, room(shape.size))
        keys, values = self.pool.store.layer(number)
        tables = self.pool.tables
        held = (tables, tables.shape[1], keys, values, 2 * shape.layers)
        placed = (told["rows"], told["positions"], *held)
        norms = 0 if layer.head_norms is None else layer.head_norms.numpy()
        turned = (self.weights.cos.numpy(), self.weights.sin.numpy(), shape.context)
        scratch = (self._scores, self._sums, self._scores.shape[2])
        split = (told["firsts"], told["counts"], *scratch, self._array("attended"))
        qkv = self._array("qkv")
        return {
            "first": self._norm(layer.norms[0]),
            "second": self._norm(layer.norms[1]),
            "place": Bound(PLACE, qkv, *sizes, *placed, *turned, norms, self._eps),
            "attend": Bound(ATTEND, qkv, *sizes, *placed, *split),
            **{site: self._delta(number, site) for site in SITES},
        }

    def _delta(self, number: int, site: str) -> Bound:
        reads, writes = FLOW[site]
        held = self.weights.layers[number].products[site]
        ends = np.array(held.ends, np.int32)
        table = self.slots.table
        return Bound(
            ADD_DELTAS,
            self.told["of_delta"],
            self.told["deltas"],
            self.told["slots"],
            table,
            table.shape[0],
            table.shape[1],
            number * len(SITES) + list(SITES).index(site),
            self._array(reads),
            self.buffers[reads].shape[1],
            self._array(writes),
            held.ends[-1],
            ends,
            len(ends),
            self._low,
            self._sums,
        )

    def hidden(self, step: Step) -> torch.Tensor:
        """The normed features of the wanted tokens, (wanted, width), and their keys and values in
        the pool. The result is overwritten by the next step.
        """
        count = len(step.tokens)
        set_crew(min(self._threads, 1 + self.work(count) // SHARE))
        told = self._tell(step.rows, step.positions, step.slots)
        told.buffers["stream"].zero_()
        made = told.buffers["made"]
        torch.index_select(self.weights.embeddings, 0, torch.from_numpy(step.tokens), out=made)
        for place, vectors in step.vectors:
            made[place : place + len(vectors)] = torch.from_numpy(vectors)
        *before, last = zip(self.weights.layers, self._layers, strict=True)
        for layer, bound in before:
            self._take_in(layer, bound, told)
            self._attend_and_gate(layer, bound, told)
        self._take_in(*last, told)
        told = self._only(step, told)  # others have given the keys and values that are read later
        self._attend_and_gate(*last, told)
        self._last(told.count, told.light)
        return told.buffers["normed"]

    def work(self, count: int) -> int:
        """FLOP of the matrix products of a step of so many tokens."""
        return count * self._work

    def _take_in(self, layer: Layer, bound: Mapping[str, Bound], told: Told) -> None:
        """Queries of all tokens, and their keys and values into the pool."""
        bound["first"](told.count, told.light)
        self._multiply(layer, bound, "qkv", told)
        bound["place"](told.count, told.light)

    def _attend_and_gate(self, layer: Layer, bound: Mapping[str, Bound], told: Told) -> None:
        """The rest of a layer, which each token does with the pool alone."""
        bound["attend"](told.tiles)
        self._multiply(layer, bound, "out", told)
        bound["second"](told.count, told.light)
        self._multiply(layer, bound, "gate_up", told)
        self._gate(told.count, told.light)
        self._multiply(layer, bound, "down", told)

    def _only(self, step: Step, told: Told) -> Told:
        """The wanted tokens alone, in front of the buffers."""
        wanted = step.wanted
        if np.array_equal(wanted, np.arange(told.count)):  # every row writes
            return told
        for name in ("stream", "qkv"):
            held = told.buffers[name].index_select(0, torch.from_numpy(wanted))
            self.buffers[name][: len(wanted)] = held
        return self._tell(step.rows[wanted], step.positions[wanted], step.slots[wanted])

    def _tell(self, rows: np.ndarray, positions: np.ndarray, slots: np.ndarray) -> Told:
        """Write where kernels read it what they ask of tokens, and tiles of them."""
        count = len(rows)
        firsts, counts = alone_last(*tiles(rows, positions - np.arange(count)))
        of_delta, deltas = tiles(slots)
        of_tiles = slots[of_delta]
        has = of_tiles > 0
        told = (rows, positions, firsts, counts, of_delta[has], deltas[has], of_tiles[has])
        for place, values in zip(self.told.values(), told, strict=True):
            place[: len(values)] = values
        buffers = {name: buffer[:count] for name, buffer in self.buffers.items()}
        light = 1 if count * self.weights.shape.width < LIGHT else 0
        return Told(count, len(firsts), int(has.sum()), light, buffers)

    def _multiply(
        self,
        layer: Layer,
        bound: Mapping[str, Bound],
        site: str,
        told: Told,
    ) -> None:
        reads, writes = FLOW[site]
        layer.products[site].into(told.buffers[reads], told.buffers[writes])
        bound[site](told.deltas)

    def say(self, hidden: torch.Tensor, out: torch.Tensor) -> None:
        """Write what the output layer says of `hidden` (tokens, width) to `out`, as of `paper`."""
        self.weights.head.into(hidden, out)

    def paper(self, count: int) -> torch.Tensor:
        """Room for logits on the host, (count, vocabulary)."""
        return torch.zeros(count, self.weights.shape.vocabulary)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the output layer says. (tokens, width) to (tokens, vocabulary)."""
        said = self.paper(len(hidden))
        self.say(hidden, said)
        return said


FLOW = {  # a product by the buffers that it reads and writes
    "qkv": ("normed", "qkv"),
    "out": ("attended", "made"),
    "gate_up": ("normed", "gate_up"),
    "down": ("gated", "made"),
}
