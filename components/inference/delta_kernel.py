"""Low-rank deltas of many adapters in one batch, beside the products that all rows share.

    y = scale * (W x + B (A x))       for the tokens whose row has a delta; for all others y = W x

The adapters' matrices lie where they were read into memory. A table says where, by slot and site,
so that ranks may differ and nothing is padded or copied for a step.
"""

import numpy as np
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

SEGMENTS = 3  # matrices that lie side by side in one product, at most: queries, keys, values
FIELDS = 3 * SEGMENTS + 1  # of a site: rank and addresses of A and B for each; address of scales
MOST_RANK = 1024


@njit(**FAST)
def _shrink(a, x, low):
    """low = A x. Rows as views: indices in two dimensions would keep the loop from vectorising."""
    for j in range(a.shape[0]):
        row = a[j]
        dot = np.float32(0.0)
        for i in range(x.shape[0]):
            dot += row[i] * x[i]
        low[j] = dot


@njit(**FAST)
def _expand(low, b, y):
    """y += B low."""
    for j in range(b.shape[0]):
        weight, row = low[j], b[j]
        for i in range(y.shape[0]):
            y[i] += weight * row[i]


def add_deltas(words):
    """y of one site, for the tokens that have a delta.

    words: tokens, which of the step's, their slots, table, slots, sites, site, x, inputs, y,
    outputs, ends of the segments, segments, room for MOST_RANK floats for each thread.
    """
    w = carray(words, (MOST_WORDS,))
    count, inputs, outputs, segments = w[0], w[8], w[10], w[12]
    tokens, slots = ints(w[1], (count,)), ints(w[2], (count,))
    table = longs(w[3], (w[4], w[5], FIELDS))
    site = w[6]
    x, y = floats(w[7], (MANY, inputs)), floats(w[9], (MANY, outputs))
    ends = ints(w[11], (segments,))
    me = part()
    low = floats(w[13] + me * MOST_RANK * 4, (MOST_RANK,))
    for item in range(me, count, parts()):
        t = tokens[item]
        told = table[slots[item], site]
        first = 0
        for segment in range(segments):
            rank, last = told[3 * segment], ends[segment]
            if rank:
                a = floats(told[3 * segment + 1], (rank, inputs))
                b = floats(told[3 * segment + 2], (rank, last - first))
                _shrink(a, x[t], low)
                _expand(low, b, y[t, first:last])
            first = last
        if told[3 * SEGMENTS]:
            scale = floats(told[3 * SEGMENTS], (outputs,))
            for i in range(outputs):
                y[t, i] *= scale[i]


ADD_DELTAS = kernel(add_deltas)
