"""Low-rank deltas of many adapters on a device.

An adapter is one vector there, in which the matrices of all products follow each other. The vectors
of a rectangle's rows lie in the lines of one buffer, so that a product of all rows with their own
matrices is one batched product:

    y = scale * (W x + B (A x))      A (rows, inputs, ranks), B (rows, ranks, outputs)

where several matrices share x (queries, keys and values; gate and up) their As lie side by side and
their Bs on a diagonal. A line changes when another request takes the row, not in every step.
"""

from itertools import count
from typing import NamedTuple

import numpy as np
import torch

from components.inference.checkpoint import SITES
from components.inference.deltas import Delta
from components.inference.forms import READING, Form, filled
from components.inference.weights import Weights

LEAST_RANK = 16  # that of tensor cores: smaller ones are filled up, and rows need no other line
ALIGNED = 16  # numbers; where matrices begin, as fast products want it


class Matrices(NamedTuple):
    """Of one product, in lines of vectors: a (lines, inputs, ranks), b (lines, ranks, outputs),
    scale (lines, outputs).
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: torch.Tensor


class Layout:
    """Where an adapter's vector has its matrices, each filled up to `rank`; all layers alike."""

    def __init__(self, weights: Weights, rank: int) -> None:
        self.rank, self.layers = rank, weights.shape.layers
        self._sites: dict[str, tuple[int, int, int, int]] = {}
        size = 0
        for site, product in weights.layers[0].products.items():
            ranks, outputs = rank * len(product.ends), product.ends[-1]
            self._sites[site] = (size, product.inputs, ranks, outputs)
            size += product.inputs * ranks + ranks * outputs + outputs
            size = -(-size // ALIGNED) * ALIGNED
        self.of_layer = size
        self.size = size * self.layers

    def matrices(self, lines: torch.Tensor, site: str) -> Matrices:
        """Views. lines: (lines, of_layer)."""
        first, inputs, ranks, outputs = self._sites[site]
        sizes = (inputs * ranks, ranks * outputs, outputs)
        a, b, scale = lines[:, first : first + sum(sizes)].split(sizes, 1)
        return Matrices(a.unflatten(1, (inputs, ranks)), b.unflatten(1, (ranks, outputs)), scale)

    def segments(self, lines: torch.Tensor, site: str, rank: int) -> tuple[torch.Tensor, ...]:
        """Views of the first `rank` of each segment: A (lines, inputs, segments, rank), B (lines,
        segments, rank, outputs), scale.
        """
        a, b, scale = self.matrices(lines, site)
        if not self.rank:
            return (scale,)
        a, b = a.unflatten(2, (-1, self.rank)), b.unflatten(1, (-1, self.rank))
        return a[..., :rank], b[:, :, :rank], scale

    def empty(self, like: torch.Tensor) -> torch.Tensor:
        """The vector of an adapter that changes nothing, (size,); like: its kind and device."""
        vector = like.new_zeros(self.size)
        for site in SITES:
            self.matrices(vector.view(self.layers, -1), site).scale.fill_(1)
        return vector


class Held(NamedTuple):
    """serial: no other delta ever has it; vector: of the layout of `rank`."""

    serial: int
    rank: int
    scaled: bool
    vector: torch.Tensor


class DeviceSlots:
    """Which delta each slot stands for; slot 0 is none."""

    def __init__(self, weights: Weights, most: int, rows: int) -> None:
        """most: deltas in memory at once; rows: in a batch."""
        self.weights = weights
        self._rows = filled(rows)  # that write; behind them are the lines of those that read
        self._layouts: dict[int, Layout] = {}
        self._buffers: dict[int, torch.Tensor] = {}
        self._known: dict[int, list[int]] = {}  # serials of what is in a buffer's lines
        self._serials = count(1)
        self._free = list(range(most, 0, -1))
        self._held = {0: Held(0, 0, False, self.layout(0).empty(weights.embeddings))}

    def layout(self, rank: int) -> Layout:
        if rank not in self._layouts:
            self._layouts[rank] = Layout(self.weights, rank)
        return self._layouts[rank]

    def put(self, delta: Delta) -> int:
        """The slot that stands for `delta` from now on. There must be a free one."""
        ranks = [len(a) for change in delta.changes.values() for a in change.shrinks.values()]
        rank = filled(max(ranks), LEAST_RANK) if ranks else 0
        scaled = any(change.scale is not None for change in delta.changes.values())
        vector = self._vector(delta, self.layout(rank)).to(self.weights.embeddings)
        slot = self._free.pop()
        self._held[slot] = Held(next(self._serials), rank, scaled, vector)
        return slot

    def drop(self, slot: int) -> None:
        """Free a slot that no request has."""
        del self._held[slot]
        self._free.append(slot)

    def _vector(self, delta: Delta, layout: Layout) -> torch.Tensor:
        """(size,), float32 on the host."""
        vector = layout.empty(torch.zeros(0))
        lines = vector.view(layout.layers, -1)
        for site, change in delta.changes.items():
            layer, number = divmod(site, len(SITES))
            name = list(SITES)[number]
            of_layer = layout.matrices(lines[layer : layer + 1], name)
            a, b, scale = (matrix[0] for matrix in of_layer)
            ends = (0, *self.weights.layers[0].products[name].ends)
            for n, shrink in change.shrinks.items():
                first = n * layout.rank
                ranks = slice(first, first + len(shrink))
                a[:, ranks] = torch.from_numpy(shrink).t()
                b[ranks, ends[n] : ends[n + 1]] = torch.from_numpy(change.expands[n])
            if change.scale is not None:
                scale.copy_(torch.from_numpy(change.scale))
        return vector

    def kind(self, slots: np.ndarray) -> tuple[int, bool]:
        """The rank of the layout that takes all of them, and whether one scales."""
        held = [self._held[slot] for slot in set(slots.tolist())]
        return max(h.rank for h in held), any(h.scaled for h in held)

    def seat(self, form: Form, slots: np.ndarray) -> None:
        """Bring the vectors of a rectangle's rows into the lines that `matrices` reads.

        slots: of each row, without those that it is filled up with.
        """
        if not form.rank and not form.scaled:
            return
        buffer, known = self._buffer(form.rank)
        first = self._first(form)
        for line, slot in enumerate(slots.tolist(), first):
            held = self._held[slot]
            if known[line] != held.serial:
                buffer[line] = self._widened(held, form.rank)
                known[line] = held.serial

    def _buffer(self, rank: int) -> tuple[torch.Tensor, list[int]]:
        """Lines of that rank's layout; they stay where they are."""
        if rank not in self._buffers:
            like, size = self.weights.embeddings, self.layout(rank).size
            self._buffers[rank] = like.new_zeros(self._rows + READING, size)
            self._known[rank] = [-1] * (self._rows + READING)
        return self._buffers[rank], self._known[rank]

    def _first(self, form: Form) -> int:
        return self._rows if form.tokens > 1 else 0

    def _widened(self, held: Held, rank: int) -> torch.Tensor:
        """Its vector in the layout of a higher rank."""
        if held.rank == rank:
            return held.vector
        narrow, wide = self.layout(held.rank), self.layout(rank)
        vector = wide.empty(held.vector)
        of_layers = (vector.view(wide.layers, -1), held.vector.view(narrow.layers, -1))
        for site in SITES:
            into = wide.segments(of_layers[0], site, held.rank)
            found = narrow.segments(of_layers[1], site, held.rank)
            for target, source in zip(into[-len(found) :], found, strict=True):
                target.copy_(source)
        return vector

    def matrices(self, form: Form, layer: int, site: str) -> Matrices:
        """Of the rectangle's rows."""
        layout, first = self.layout(form.rank), self._first(form)
        of_layer = self._buffers[form.rank].unflatten(1, (layout.layers, -1))[:, layer]
        return layout.matrices(of_layer[first : first + form.rows], site)
