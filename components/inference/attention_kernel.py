"""Rotary positions and attention, over keys and values in the blocks of a pool.

A block of a pool has two parts for each layer, keys (key heads, size, BLOCK) and values (key heads,
BLOCK, room), where room is the size of a head rounded up to a register. So a line of keys is one
number of 16 positions, a line of values 16 numbers of one position, and both products of attention
are `tiles.multiply` of a block as it lies:

    scores (tokens, 16)  =  queries (tokens, size) @ keys (size, 16)        for each block
    out (tokens, 16)    +=  weights (tokens, 16) @ values (16, 16 of room)  for each block

Up to ROWS consecutive tokens of one row are a tile: each block is loaded once for all of them. A
token alone, as a row that writes has it, goes through a block with all heads at once, so that what
lies side by side is read in order.
"""

import numpy as np
from numba import carray

from components.inference.compiling import kernel, routine
from components.inference.kernels import scaled
from components.inference.registers import LANES, soften
from components.inference.threads import (
    MANY,
    MOST_WORDS,
    floats,
    ints,
    part,
    parts,
)
from components.inference.tiles import (
    ROWS,
    multiply,
    multiply_pair,
    multiply_streamed,
)

BLOCK = LANES  # positions in a block of the key/value pool
BEHIND = np.float32(-1e30)  # the score of what a token must not see


def room(size: int) -> int:
    """A head's numbers with what fills the last register up."""
    return -(-size // LANES) * LANES


@routine
def _rotate(vector, cos, sin):
    """Turn the pairs (i, i + half) of a head (Su et al. 2021, equation 34, as Llama lays it)."""
    half = cos.shape[0]
    for i in range(half):
        low, high = vector[i], vector[i + half]
        vector[i] = low * cos[i] - high * sin[i]
        vector[i + half] = high * cos[i] + low * sin[i]


def place(words):
    """Norm (Qwen3) and rotate queries and keys in place, and put keys and values into the pool.

    words: tokens, qkv, heads, key heads, size, room, rows, positions, tables, blocks of a row,
    keys, values, parts of a block, cos, sin, context, norms (0: none; of a query and a key, each of
    a head's size), eps.
    """
    w = carray(words, (MOST_WORDS,))
    tokens, heads, kv, size, half = w[0], w[2], w[3], w[4], w[4] // 2
    qkv = floats(w[1], (tokens, heads + 2 * kv, size))
    rows, positions = ints(w[6], (tokens,)), ints(w[7], (tokens,))
    tables = ints(w[8], (MANY, w[9]))
    keys = floats(w[10], (MANY, w[12], kv, w[5], BLOCK))
    values = floats(w[11], (MANY, w[12], kv, BLOCK, w[5]))
    cos, sin = floats(w[13], (w[15], half)), floats(w[14], (w[15], half))
    for t in range(part(), tokens, parts()):
        position = positions[t]
        for h in range(heads + kv):
            if w[16]:
                norm = floats(w[16] + (size * 4 if h >= heads else 0), (size,))
                scaled(qkv[t, h], norm, floats(w[17], (1,))[0], qkv[t, h])
            _rotate(qkv[t, h], cos[position], sin[position])
        block, place = tables[rows[t], position // BLOCK], position % BLOCK
        for h in range(kv):
            for i in range(size):
                keys[block, 0, h, i, place] = qkv[t, heads + h, i]
                values[block, 0, h, place, i] = qkv[t, heads + kv + h, i]


@routine
def _weigh(scores, seen, size):
    """Scores of positions, the first `seen` of which are seen, as weights; their sum."""
    for position in range(seen, scores.shape[0]):
        scores[position] = BEHIND
    return soften(scores, scores.shape[0], np.float32(1.0) / np.sqrt(np.float32(size)))


@routine
def _share(sums, total, out):
    """The mean of values from their weighted sums. out: as many as are left of a head."""
    share = np.float32(1.0) / total
    for i in range(min(2 * LANES, out.shape[0])):
        out[i] = sums[i] * share


@routine
def _attend(queries, count, position, table, keys, values, scores, sums, out):
    """One head of `count` tokens from `position` on: softmax(q K^T / sqrt(size)) V.

    queries: (ROWS or 1, size), of which those behind `count` are others' and ignored; table: the
    row's blocks; keys, values: (blocks, size, BLOCK), (blocks, BLOCK, room); scores: (ROWS, a
    row's positions); sums: (ROWS + 1, 2 LANES), the last line of weights; out: (count, size).
    """
    size, many = queries.shape[1], count > 1
    blocks = (position + count + BLOCK - 1) // BLOCK
    for b in range(0, blocks - 1, 2):
        left, right = keys[table[b], :size], keys[table[b + 1], :size]
        multiply_pair(queries, left, right, scores[:, b * BLOCK :], many, False)
    if blocks % 2:
        last = blocks - 1
        multiply(queries, keys[table[last], :size], scores[:, last * BLOCK :], many, False)
    for t in range(count):
        sums[ROWS, t] = _weigh(scores[t, : blocks * BLOCK], position + t + 1, size)
    for first in range(0, size, 2 * LANES):
        pair = first + LANES < size
        for b in range(blocks):
            weights, held = scores[:, b * BLOCK : (b + 1) * BLOCK], values[table[b], :, first:]
            if pair:
                multiply_pair(weights, held, held[:, LANES:], sums, many, b > 0)
            else:
                multiply(weights, held, sums, many, b > 0)
        for t in range(count):
            _share(sums[t], sums[ROWS, t], out[t, first:])


@routine
def _attend_alone(queries, head, of, position, table, keys, values, scores, sums, out):
    """As `_attend`, of one token and at most ROWS of its `of` heads, from `head` on: (heads, size).

    keys, values: (blocks, key heads, room, BLOCK), (blocks, key heads, BLOCK, room).
    """
    heads, size = queries.shape
    kv, blocks = keys.shape[1], position // BLOCK + 1
    for b in range(blocks):  # what lies side by side is read in order
        held = keys[table[b]]
        for h in range(heads):
            to = scores[h : h + 1, b * BLOCK :]
            shared = held[(head + h) * kv // of, :size]
            multiply_streamed(queries[h : h + 1], shared, to, False, False)
    for h in range(heads):
        sums[ROWS, h] = _weigh(scores[h, : blocks * BLOCK], position + 1, size)
    for first in range(0, size, 2 * LANES):
        pair = first + LANES < size
        for b in range(blocks):
            held = values[table[b]]
            for h in range(heads):
                weights = scores[h : h + 1, b * BLOCK : (b + 1) * BLOCK]
                shared = held[(head + h) * kv // of, :, first:]
                multiply_streamed(weights, shared, sums[h : h + 1], False, b > 0)
                if pair:
                    to = sums[h : h + 1, LANES:]
                    multiply(weights, shared[:, LANES:], to, False, b > 0)
        for h in range(heads):
            _share(sums[h], sums[ROWS, h], out[h, first:])


def attend(words):
    """Causal attention of every token over its row's blocks.

    words: tiles, qkv, heads, key heads, size, room, rows, positions, tables, blocks of a row, keys,
    values, parts of a block, firsts and counts of the tiles' tokens, room for each thread's scores
    (ROWS, positions of a row) and sums (ROWS + 1, 2 LANES), positions of a row, out. Tiles of one
    token come last.
    """
    w = carray(words, (MOST_WORDS,))
    tiles, heads, kv, size = w[0], w[2], w[3], w[4]
    qkv, out = floats(w[1], (MANY, heads + 2 * kv, size)), floats(w[18], (MANY, heads, size))
    rows, positions, tables = ints(w[6], (MANY,)), ints(w[7], (MANY,)), ints(w[8], (MANY, w[9]))
    keys = floats(w[10], (MANY, w[12], kv, w[5], BLOCK))
    values = floats(w[11], (MANY, w[12], kv, BLOCK, w[5]))
    firsts, counts = ints(w[13], (tiles,)), ints(w[14], (tiles,))
    me, of, length = part(), parts(), w[17]
    scores = floats(w[15] + me * ROWS * length * 4, (ROWS, length))
    sums = floats(w[16] + me * (ROWS + 1) * 2 * LANES * 4, (ROWS + 1, 2 * LANES))
    many = 0
    while many < tiles and counts[many] > 1:
        many += 1
    items = many * heads
    # each thread has heads of its own: tiles of one row follow each other, and find its blocks near
    for item in range(me * items // of, (me + 1) * items // of):
        first, count, h = firsts[item % many], counts[item % many], item // many
        head = h * kv // heads
        _attend(
            qkv[first : first + ROWS, h], count, positions[first], tables[rows[first]],
            keys[:, 0, head], values[:, 0, head], scores, sums, out[first : first + count, h],
        )  # fmt: skip
    alone = tiles - many
    wide = min(ROWS, max(1, heads * alone // of))  # heads at once; some for each thread
    groups = (heads + wide - 1) // wide
    for item in range(me * alone * groups // of, (me + 1) * alone * groups // of):
        first, h = firsts[many + item // groups], item % groups * wide
        last = min(h + wide, heads)
        _attend_alone(
            qkv[first, h:last], h, heads, positions[first], tables[rows[first]],
            keys[:, 0], values[:, 0], scores, sums, out[first, h:last],
        )  # fmt: skip


PLACE, ATTEND = kernel(place), kernel(attend)
