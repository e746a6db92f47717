"""Low-rank deltas, held against NumPy: tiles of all lengths, on one thread and more; crews."""

import os

import numpy as np
import pytest
import torch

from components.inference import threads
from components.inference.delta_kernel import ADD_DELTAS, MOST_LOW
from components.inference.deltas import Change, Delta
from components.inference.registers import LANES
from components.inference.slots import Slots
from components.inference.threads import Bound, passing_crew, set_crew
from components.inference.tiles import ROWS

INPUTS, ENDS = 21, (40, 51, 90)  # of three matrices, whose last panels are not full
COUNTS = (1, 8, 3, 7, 2, 1)  # tokens of the tiles


def changed(random, ranks, scaled):
    widths = np.diff((0, *ENDS))

    def normal(*shape):
        return random.normal(size=shape).astype(np.float32)

    return Change(
        {n: normal(rank, INPUTS) for n, rank in enumerate(ranks) if rank},
        {n: normal(rank, widths[n]) for n, rank in enumerate(ranks) if rank},
        1 + normal(ENDS[-1]) if scaled else None,
    )


def exact(change, x, y):
    y, first = y.astype(np.float64), 0
    for segment, end in enumerate(ENDS):
        if segment in change.shrinks:
            y[:, first:end] += x @ change.shrinks[segment].T @ change.expands[segment]
        first = end
    return y if change.scale is None else y * change.scale


@pytest.mark.parametrize("crew", [1, 2, 3])
def test_deltas_are_numpys_and_touch_no_other_row(crew):
    random = np.random.default_rng(crew)
    kinds = [((4, 4, 4), False), ((8, 0, 1), True), ((0, 0, 0), True), ((3, 5, 20), False)]
    changes = [changed(random, ranks, scaled) for ranks, scaled in kinds]
    slots = Slots(layers=1, most=8)
    of_change = [slots.put(Delta({0: change})) for change in changes]
    rows = sum(COUNTS) + 2  # one before and one behind have none
    x = random.normal(size=(rows + ROWS, INPUTS)).astype(np.float32)
    y = random.normal(size=(rows + ROWS, ENDS[-1])).astype(np.float32)
    expected, place = y.astype(np.float64), 1
    firsts, of_tiles = [], []
    for number, count in enumerate(COUNTS):
        which = number % len(changes)
        tile = slice(place, place + count)
        expected[tile] = exact(changes[which], x[tile], y[tile])
        firsts.append(place)
        of_tiles.append(of_change[which])
        place += count
    told = [np.array(values, np.int32) for values in (firsts, COUNTS, of_tiles)]
    ends, table = np.array(ENDS, np.int32), slots.table
    low = np.zeros((len(COUNTS), ROWS, MOST_LOW), np.float32)
    made = np.zeros((crew, ROWS, LANES), np.float32)
    sizes = (table, *table.shape[:2], 0, x, INPUTS, y, ENDS[-1], ends, len(ENDS))
    set_crew(crew)
    try:
        Bound(ADD_DELTAS, *told, *sizes, low, made)(len(COUNTS), crew)
    finally:
        set_crew(torch.get_num_threads())
    np.testing.assert_allclose(y, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.skipif(threads._library is None, reason="kernels run on the calling thread here")
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no list of threads")
def test_a_passing_crew_is_gone_and_comes_again():
    random = np.random.default_rng(0)
    slots = Slots(layers=1, most=1)
    slot = slots.put(Delta({0: changed(random, (4, 4, 4), False)}))
    told = [np.array([value], np.int32) for value in (0, 1, slot)]
    x, y = np.ones((1, INPUTS), np.float32), np.zeros((1, ENDS[-1]), np.float32)
    sizes = (slots.table, *slots.table.shape[:2], 0, x, INPUTS, y, ENDS[-1])
    room = (np.zeros((1, ROWS, MOST_LOW), np.float32), np.zeros((4, ROWS, LANES), np.float32))
    bound = Bound(ADD_DELTAS, *told, *sizes, np.array(ENDS, np.int32), len(ENDS), *room)
    with passing_crew():
        pass
    alone = len(os.listdir("/proc/self/task"))
    for _ in range(2):
        with passing_crew():
            bound(1, 4)
            assert len(os.listdir("/proc/self/task")) == alone + 3
        assert len(os.listdir("/proc/self/task")) == alone
