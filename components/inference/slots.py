"""Deltas in memory, as `delta_kernel` reads them: in panels, with a table of where they lie."""

from dataclasses import dataclass

import numpy as np

from components.inference.checkpoint import SITES
from components.inference.delta_kernel import AS, BS, FIELDS, PANELS, RANKS, SCALES
from components.inference.deltas import Change, Delta
from components.inference.tiles import LANES, NARROW


class Slots:
    """Which delta each slot stands for; slot 0 is none."""

    def __init__(self, layers: int, most: int) -> None:
        """most: deltas in memory at once."""
        self.table = np.zeros((most + 1, layers * len(SITES), FIELDS), np.int64)
        self._held: dict[int, list[np.ndarray]] = {}  # what the table points to
        self._free = list(range(most, 0, -1))

    def put(self, delta: Delta) -> int:
        """The slot that stands for `delta` from now on. There must be a free one."""
        slot = self._free.pop()
        self._held[slot], self.table[slot] = [], 0
        for site, change in delta.changes.items():
            packed = _packed(change)
            self.table[slot, site] = packed.fields
            self._held[slot] += packed.arrays
        return slot

    def drop(self, slot: int) -> None:
        """Free a slot that no request has."""
        del self._held[slot]
        self._free.append(slot)


@dataclass(frozen=True)
class _Packed:
    """fields: as the table holds them; arrays: what they point to."""

    fields: np.ndarray
    arrays: list[np.ndarray]

    def hold(self, field: int, array: np.ndarray) -> None:
        """Its address; it stays where it is."""
        self.fields[field] = array.ctypes.data
        self.arrays.append(array)


def _packed(change: Change) -> _Packed:
    made = _Packed(np.zeros(FIELDS, np.int64), [])
    for segment, b in change.expands.items():
        made.fields[RANKS + segment] = len(b)
        made.hold(BS + segment, _panels(b, LANES))
    if change.shrinks:
        side_by_side = [change.shrinks[n].T for n in sorted(change.shrinks)]
        panels = _panels(np.concatenate(side_by_side, axis=1), NARROW)
        made.fields[PANELS] = len(panels)
        made.hold(AS, panels)
    if change.scale is not None:
        made.hold(SCALES, change.scale)
    return made


def _panels(matrix: np.ndarray, lanes: int) -> np.ndarray:
    """(lines, columns) as (panels, lines, lanes), the last panel filled up with zeros."""
    lines, columns = matrix.shape
    count = -(-columns // lanes)
    filled = np.zeros((lines, count * lanes), np.float32)
    filled[:, :columns] = matrix
    return np.ascontiguousarray(filled.reshape(lines, count, lanes).transpose(1, 0, 2))
