"""Low-rank deltas of many adapters on a device.

An adapter is two vectors there: one in which the matrices of all products follow each other, and
one of scales. The vectors of a rectangle's rows lie in the lines of buffers that stay where they
are, so that a graph can read them. A line changes when another request takes the row, not in every
step.
"""

from itertools import count
from typing import NamedTuple

import numpy as np
import torch

from components.inference.checkpoint import SITES
from components.inference.deltas import Delta
from components.inference.device_delta_kernel import MATRICES, SCALE, Lines
from components.inference.forms import READING, Form, filled
from components.inference.weights import Weights

LEAST_RANK = 16  # that of tensor cores: smaller ones are filled up, and rows need no other line
ALIGNED = 16  # numbers; where matrices begin, as fast loads want it


class Matrices(NamedTuple):
    """Of one product: a (matrices side by side, inputs, rank), b (rank, outputs)."""

    a: torch.Tensor
    b: torch.Tensor


class Layout:
    """Where an adapter's vector has its matrices, each filled up to `rank`; all layers alike."""

    def __init__(self, weights: Weights, rank: int) -> None:
        self.rank, self.layers = rank, weights.shape.layers
        self._sites: dict[str, tuple[int, int, int, int]] = {}
        size = 0
        for site, product in weights.layers[0].products.items():
            matrices, outputs = len(product.ends), product.ends[-1]
            self._sites[site] = (size, matrices, product.inputs, outputs)
            size += (matrices * product.inputs + outputs) * rank
            size = -(-size // ALIGNED) * ALIGNED
        self.of_layer = size
        self.size = size * self.layers

    def at(self, layer: int, site: str) -> tuple[int, int]:
        """Where A and B begin."""
        first, matrices, inputs, _ = self._sites[site]
        first += layer * self.of_layer
        return first, first + matrices * inputs * self.rank

    def matrices(self, vector: torch.Tensor, layer: int, site: str) -> Matrices:
        """Views. vector: (size,)."""
        _, matrices, inputs, outputs = self._sites[site]
        a, b = self.at(layer, site)
        return Matrices(
            vector[a:b].view(matrices, inputs, self.rank),
            vector[b : b + self.rank * outputs].view(self.rank, outputs),
        )

    def widened(self, vector: torch.Tensor, narrow: "Layout") -> torch.Tensor:
        """A vector of a lower rank's layout in this one, (size,)."""
        if narrow.rank == self.rank:
            return vector
        wide = vector.new_zeros(self.size)
        for layer in range(self.layers):
            for site in SITES:
                into = self.matrices(wide, layer, site)
                found = narrow.matrices(vector, layer, site)
                into.a[..., : narrow.rank] = found.a
                into.b[: narrow.rank] = found.b
        return wide


class Held(NamedTuple):
    """serial: no other delta ever has it; mark: as `Lines` has it; matrices: a vector of the layout
    of `rank`; scales: of all layers' outputs.
    """

    serial: int
    mark: int
    rank: int
    matrices: torch.Tensor | None
    scales: torch.Tensor | None


class Seats:
    """Lines of one rank's layout. known: serials of what is in them."""

    def __init__(self, layout: Layout, lines: int, outputs: int, like: torch.Tensor) -> None:
        self.layout = layout
        self.matrices = like.new_zeros(lines, layout.size)
        self.scales = like.new_zeros(lines, outputs)
        self.marks = like.new_zeros(lines, dtype=torch.int32)
        self.known = [-1] * lines

    def seat(self, line: int, held: Held, narrow: Layout) -> None:
        """narrow: the layout of what is held."""
        if self.known[line] == held.serial:
            return
        if held.matrices is not None:
            self.matrices[line] = self.layout.widened(held.matrices, narrow)
        if held.scales is not None:
            self.scales[line] = held.scales
        self.marks[line] = held.mark
        self.known[line] = held.serial


class DeviceSlots:
    """Which delta each slot stands for; slot 0 is none."""

    def __init__(self, weights: Weights, most: int, rows: int) -> None:
        """most: deltas in memory at once; rows: in a batch."""
        self.weights = weights
        self._rows = filled(rows)  # that write; behind them are the lines of those that read
        products = weights.layers[0].products
        borders = np.cumsum([0, *(product.ends[-1] for product in products.values())])
        *firsts, self._outputs = borders.tolist()  # of a layer
        self._firsts = dict(zip(products, firsts, strict=True))
        self._layouts: dict[int, Layout] = {}
        self._seats: dict[int, Seats] = {}
        self._serials = count(1)
        self._free = list(range(most, 0, -1))
        self._held = {0: Held(0, 0, 0, None, None)}

    def layout(self, rank: int) -> Layout:
        if rank not in self._layouts:
            self._layouts[rank] = Layout(self.weights, rank)
        return self._layouts[rank]

    def put(self, delta: Delta) -> int:
        """The slot that stands for `delta` from now on. There must be a free one."""
        ranks = [len(a) for change in delta.changes.values() for a in change.shrinks.values()]
        rank = filled(max(ranks, default=1), LEAST_RANK)
        scaled = any(change.scale is not None for change in delta.changes.values())
        like, mark = self.weights.embeddings, bool(ranks) * MATRICES + scaled * SCALE
        matrices = self._matrices(delta, self.layout(rank)).to(like) if ranks else None
        scales = self._scales(delta).to(like) if scaled else None
        slot = self._free.pop()
        self._held[slot] = Held(next(self._serials), mark, rank, matrices, scales)
        return slot

    def drop(self, slot: int) -> None:
        """Free a slot that no request has."""
        del self._held[slot]
        self._free.append(slot)

    def _matrices(self, delta: Delta, layout: Layout) -> torch.Tensor:
        """(size of the layout,), float32 on the host."""
        vector = torch.zeros(layout.size)
        for place, change in delta.changes.items():
            layer, site = self._site(place)
            a, b = layout.matrices(vector, layer, site)
            ends = (0, *self.weights.layers[0].products[site].ends)
            for n, shrink in change.shrinks.items():
                a[n, :, : len(shrink)] = torch.from_numpy(shrink).t()
                b[: len(shrink), ends[n] : ends[n + 1]] = torch.from_numpy(change.expands[n])
        return vector

    def _scales(self, delta: Delta) -> torch.Tensor:
        """(layers * outputs of a layer,), float32 on the host."""
        vector = torch.ones(self.weights.shape.layers * self._outputs)
        for place, change in delta.changes.items():
            if change.scale is not None:
                first = self._first_scale(*self._site(place))
                vector[first : first + len(change.scale)] = torch.from_numpy(change.scale)
        return vector

    def _site(self, place: int) -> tuple[int, str]:
        """Layer and site by the key of `Delta.changes`."""
        layer, number = divmod(place, len(SITES))
        return layer, list(SITES)[number]

    def _first_scale(self, layer: int, site: str) -> int:
        return layer * self._outputs + self._firsts[site]

    def rank(self, slots: np.ndarray) -> int:
        """Of the layout that takes all of them, 0 where none has a delta."""
        return max(self._held[slot].rank for slot in set(slots.tolist()))

    def seat(self, form: Form, slots: np.ndarray) -> None:
        """Bring the vectors of a rectangle's rows into the lines that `lines` reads.

        slots: of each row, without those that it is filled up with.
        """
        if not form.rank:
            return
        seats = self._seats_of(form.rank)
        for line, slot in enumerate(slots.tolist(), self._first(form)):
            held = self._held[slot]
            seats.seat(line, held, self.layout(held.rank))

    def _seats_of(self, rank: int) -> Seats:
        if rank not in self._seats:
            lines, outputs = self._rows + READING, self.weights.shape.layers * self._outputs
            layout = self.layout(rank)
            self._seats[rank] = Seats(layout, lines, outputs, self.weights.embeddings)
        return self._seats[rank]

    def _first(self, form: Form) -> int:
        return self._rows if form.tokens > 1 else 0

    def lines(self, form: Form, layer: int, site: str) -> Lines:
        """Of the rectangle's rows."""
        seats, first = self._seats[form.rank], self._first(form)
        rows = slice(first, first + form.rows)
        a, b = seats.layout.at(layer, site)
        scale = self._first_scale(layer, site)
        matrices = seats.matrices[rows]
        marks, scales = seats.marks[rows], seats.scales[rows, scale:]
        return Lines(marks, matrices[:, a:], matrices[:, b:], scales, form.rank)
