"""Deltas in memory, as `delta_kernel` reads them: in panels, with a table of where they lie."""

from typing import NamedTuple

import numpy as np

from components.inference.checkpoint import SITES
from components.inference.delta_kernel import AS, BS, FIELDS, PANELS, RANKS, SCALES
from components.inference.deltas import Change, Delta
from components.inference.registers import LANES
from components.inference.tiles import NARROW, aligned, in_panels


class Slots:
    """Which delta each slot stands for; slot 0 is none."""

    def __init__(self, layers: int, most: int) -> None:
        """most: deltas in memory at once."""
        self.table = np.zeros((most + 1, layers * len(SITES), FIELDS), np.int64)
        self._held: dict[int, np.ndarray] = {}  # what the table points to
        self._free = list(range(most, 0, -1))

    def put(self, delta: Delta) -> int:
        """The slot that stands for `delta` from now on. There must be a free one."""
        packed = {site: _packed(delta.changes[site]) for site in sorted(delta.changes)}
        arrays = [array for of_site in packed.values() for array in of_site.arrays.values()]
        slot = self._free.pop()
        self.table[slot] = 0
        # in one piece and as a step reads it, so that the processor reads ahead
        self._held[slot] = held = aligned(sum(_filled(array.size) for array in arrays))
        place = 0
        for site, of_site in packed.items():
            self.table[slot, site] = of_site.fields
            for field, array in of_site.arrays.items():
                held[place : place + array.size] = array.ravel()
                self.table[slot, site, field] = held[place:].ctypes.data
                place += _filled(array.size)
        return slot

    def drop(self, slot: int) -> None:
        """Free a slot that no request has."""
        del self._held[slot]
        self._free.append(slot)


class _Packed(NamedTuple):
    """fields: as the table holds them, without addresses; arrays: those that belong there."""

    fields: np.ndarray
    arrays: dict[int, np.ndarray]


def _packed(change: Change) -> _Packed:
    made = _Packed(np.zeros(FIELDS, np.int64), {})
    if change.shrinks:
        side_by_side = [change.shrinks[n].T for n in sorted(change.shrinks)]
        panels = in_panels(np.concatenate(side_by_side, axis=1), NARROW)
        made.fields[PANELS] = len(panels)
        made.arrays[AS] = panels
    for segment, b in sorted(change.expands.items()):
        made.fields[RANKS + segment] = len(b)
        made.arrays[BS + segment] = in_panels(b, LANES)
    if change.scale is not None:
        made.arrays[SCALES] = change.scale
    return made


def _filled(count: int) -> int:
    """So many numbers with what fills the last cache line up."""
    return -(-count // LANES) * LANES
