"""Low-rank deltas of many adapters in one batch, beside the products that all rows share.

    y = scale * (W x + B (A x))       for the tokens whose row has a delta; for all others y = W x

The adapters' matrices lie where they were read into memory, as panels of a register's width (see
`tiles`). A table says where, by slot and site, so that ranks may differ and nothing is copied for a
step. What reads the same x (queries, keys and values; gate and up) has its As side by side:

    A of q, k, v, rank 4   (inputs, 12 and 4 of nothing)     low = A x        one product
    B of q                 (4, outputs of q)                 y_q += B low[0:4]
    B of k                 (4, outputs of k)                 y_k += B low[4:8] ...
"""

from numba import carray, njit

from components.inference.compiling import kernel, routine
from components.inference.registers import LANES
from components.inference.threads import (
    MANY,
    MOST_WORDS,
    floats,
    ints,
    longs,
    part,
    parts,
    wait,
)
from components.inference.tiles import NARROW, ROWS, multiply_narrow, multiply_streamed

SEGMENTS = 3  # matrices that lie side by side in one product, at most: queries, keys, values
PANELS, AS, SCALES, RANKS, BS = 0, 1, 2, 3, 3 + SEGMENTS  # fields of a site; addresses in bytes
FIELDS = BS + SEGMENTS
MOST_RANK = 1024
MOST_LOW = SEGMENTS * MOST_RANK
FEW = 2  # tokens that are multiplied one by one


@njit(inline="always")
def _share(begin, end, panels, each):
    """The first panel, and the one behind the last, that lie between `begin` and `end`.

    each: the length of a panel; both are counted from the first panel's beginning.
    """
    first, last = (begin + each - 1) // each, (end + each - 1) // each
    return min(max(first, 0), panels), min(max(last, 0), panels)


@routine
def _shrink(told, x, low, first, last, many):
    """low = A x, in panels `first` to `last`. x: (ROWS or 1, inputs); low: (ROWS or 1, ranks)."""
    a = floats(told[AS], (MANY, x.shape[1], NARROW))
    for panel in range(first, last):
        multiply_narrow(x, a[panel], low[:, panel * NARROW :], many, False)


@routine
def _expand(low, b, y, made, first, last, many):
    """y += B low, in panels `first` to `last`.

    low: (ROWS or 1, rank); b: (panels, rank, LANES); y: (rows that there are, outputs); made:
    (ROWS, LANES).
    """
    whole = y.shape[1] // LANES if y.shape[0] == low.shape[0] else 0  # panels that fill y's lines
    for panel in range(first, min(last, whole)):
        multiply_streamed(low, b[panel], y[:, panel * LANES :], many, True)
    for panel in range(max(first, whole), last):
        multiply_streamed(low, b[panel], made, many, False)
        done = panel * LANES
        for t in range(y.shape[0]):
            for i in range(min(LANES, y.shape[1] - done)):
                y[t, done + i] += made[t, i]


@routine
def _add(told, ends, low, y, made, begin, end, many):
    """y = scale * (y + B low), in the panels of all segments between `begin` and `end`."""
    left = offset = 0
    for segment in range(len(ends)):
        rank, right = told[RANKS + segment], ends[segment]
        panels, each = (right - left + LANES - 1) // LANES, max(rank, 1)
        first, last = _share(begin, end, panels, each)
        if rank and first < last:
            b = floats(told[BS + segment], (panels, rank, LANES))
            outputs = y[:, left:right]
            _expand(low[:, offset : offset + rank], b, outputs, made, first, last, many)
        if told[SCALES]:
            scale = floats(told[SCALES], (y.shape[1],))
            for t in range(y.shape[0]):
                row = y[t]  # an index in two dimensions would keep the loop from vectorising
                for i in range(left + first * LANES, min(left + last * LANES, right)):
                    row[i] *= scale[i]
        left, offset = right, offset + rank
        begin, end = begin - panels * each, end - panels * each


@routine
def _length(told, ends):
    """Of all segments' panels of B."""
    total = left = 0
    for segment in range(len(ends)):
        panels = (ends[segment] - left + LANES - 1) // LANES
        total, left = total + panels * max(told[RANKS + segment], 1), ends[segment]
    return total


def add_deltas(words):
    """y of one site, for the tokens that have a delta.

    Each thread has an equal share of all As, and then of all Bs, in one piece: unlike ranks keep
    none of them waiting, and memory is read in long runs.

    words: tiles of tokens with one delta, the first tokens, counts and slots of them, table, slots,
    sites, site, x, inputs, y, outputs, ends of the segments, segments, room for (ROWS, MOST_LOW)
    floats for each tile and (ROWS, LANES) for each thread.
    """
    w = carray(words, (MOST_WORDS,))
    tiles, inputs, outputs = w[0], w[9], w[11]
    firsts, counts, slots = ints(w[1], (tiles,)), ints(w[2], (tiles,)), ints(w[3], (tiles,))
    table = longs(w[4], (w[5], w[6], FIELDS))
    x, y = floats(w[8], (MANY, inputs)), floats(w[10], (MANY, outputs))
    ends = ints(w[12], (w[13],))
    me, of = part(), parts()
    made = floats(w[15] + me * ROWS * LANES * 4, (ROWS, LANES))
    all_as = all_bs = 0
    for tile in range(tiles):
        all_as += table[slots[tile], w[7], PANELS]
        all_bs += _length(table[slots[tile], w[7]], ends)
    begin, end = me * all_as // of, (me + 1) * all_as // of
    for tile in range(tiles):
        told, t, count = table[slots[tile], w[7]], firsts[tile], counts[tile]
        low = floats(w[14] + tile * ROWS * MOST_LOW * 4, (ROWS, told[PANELS] * NARROW))
        first, last = _share(begin, end, told[PANELS], 1)
        begin, end = begin - told[PANELS], end - told[PANELS]
        if count > FEW:
            _shrink(told, x[t : t + ROWS], low, first, last, True)
        else:
            for n in range(count):
                _shrink(told, x[t + n : t + n + 1], low[n : n + 1], first, last, False)
    wait()
    begin, end = me * all_bs // of, (me + 1) * all_bs // of
    for tile in range(tiles):
        told, t, count = table[slots[tile], w[7]], firsts[tile], counts[tile]
        low = floats(w[14] + tile * ROWS * MOST_LOW * 4, (ROWS, told[PANELS] * NARROW))
        if count > FEW:
            _add(told, ends, low, y[t : t + count], made, begin, end, True)
        else:
            for n in range(count):
                of_token = y[t + n : t + n + 1]
                _add(told, ends, low[n : n + 1], of_token, made, begin, end, False)
        length = _length(told, ends)
        begin, end = begin - length, end - length


ADD_DELTAS = kernel(add_deltas)
