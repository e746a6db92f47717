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

from components.inference.kernels import FAST
from components.inference.threads import (
    MANY,
    MOST_WORDS,
    floats,
    ints,
    kernel,
    longs,
    part,
    parts,
)
from components.inference.tiles import LANES, NARROW, ROWS, multiply, multiply_narrow

SEGMENTS = 3  # matrices that lie side by side in one product, at most: queries, keys, values
PANELS, AS, SCALES, RANKS, BS = 0, 1, 2, 3, 3 + SEGMENTS  # fields of a site; addresses in bytes
FIELDS = BS + SEGMENTS
MOST_RANK = 1024
MOST_LOW = SEGMENTS * MOST_RANK


@njit(**FAST)
def _expand(low, b, y, made, many):
    """y += B low. low: (ROWS or 1, rank); b: (panels, rank, LANES); made: (ROWS, LANES)."""
    outputs = y.shape[1]
    for panel in range(outputs // LANES):
        multiply(low, b[panel], y[:, panel * LANES :], many, True)
    done = outputs // LANES * LANES
    if done < outputs:
        multiply(low, b[done // LANES], made, many, False)
        for t in range(y.shape[0]):
            for i in range(outputs - done):
                y[t, done + i] += made[t, i]


@njit(**FAST)
def _add(told, ends, x, y, t, count, low, made):
    """The delta of `count` tokens (ROWS or 1) from `t` on. x: (., inputs); y: (., outputs)."""
    many = count == ROWS
    a = floats(told[AS], (told[PANELS], x.shape[1], NARROW))
    for panel in range(told[PANELS]):
        multiply_narrow(x[t:], a[panel], low[:, panel * NARROW :], many, False)
    first = offset = 0
    for segment in range(len(ends)):
        rank, last = told[RANKS + segment], ends[segment]
        if rank:
            b = floats(told[BS + segment], (MANY, rank, LANES))
            outputs = y[t : t + count, first:last]
            _expand(low[:, offset : offset + rank], b, outputs, made, many)
        first, offset = last, offset + rank
    if told[SCALES]:
        scale = floats(told[SCALES], (y.shape[1],))
        for n in range(t, t + count):
            row = y[n]  # an index in two dimensions would keep the loop from vectorising
            for i in range(len(row)):
                row[i] *= scale[i]


def add_deltas(words):
    """y of one site, for the tokens that have a delta.

    words: tiles of tokens with one delta, the first tokens, counts and slots of them, table, slots,
    sites, site, x, inputs, y, outputs, ends of the segments, segments, room for (ROWS, MOST_LOW)
    and (ROWS + 1, LANES) floats for each thread.
    """
    w = carray(words, (MOST_WORDS,))
    tiles, inputs, outputs = w[0], w[9], w[11]
    firsts, counts, slots = ints(w[1], (tiles,)), ints(w[2], (tiles,)), ints(w[3], (tiles,))
    table = longs(w[4], (w[5], w[6], FIELDS))
    x, y = floats(w[8], (MANY, inputs)), floats(w[10], (MANY, outputs))
    ends = ints(w[12], (w[13],))
    me = part()
    low = floats(w[14] + me * ROWS * MOST_LOW * 4, (ROWS, MOST_LOW))
    made = floats(w[15] + me * (ROWS + 1) * LANES * 4, (ROWS, LANES))
    for tile in range(me, tiles, parts()):
        told, first, last = table[slots[tile], w[7]], firsts[tile], firsts[tile] + counts[tile]
        count = ROWS if counts[tile] == ROWS else 1
        for t in range(first, last, count):
            _add(told, ends, x, y, t, count, low, made)


ADD_DELTAS = kernel(add_deltas)
