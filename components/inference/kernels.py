"""What a step does between its matrix products: norms, rotary positions, attention, gates.

Each kernel is called by all threads of a crew, and each thread takes every n-th item, so that rows
of unlike lengths are spread evenly. Arrays are float32 in C order; a key/value pool of one layer
has shape (blocks, key heads, BLOCK, head size).
"""

import numpy as np
from numba import carray, njit

from components.inference.threads import (
    MANY,
    MOST_WORDS,
    floats,
    ints,
    kernel,
    part,
    parts,
)

BLOCK = 16  # positions in a block of the key/value pool
FAST = {"fastmath": True, "error_model": "numpy", "cache": True}
LOG2_E = np.float32(1.4426950408889634)
LN_2 = np.float32(0.6931471805599453)
LOWEST = np.float32(-87.0)  # below that float32 has no normal exp


@njit(**FAST, inline="always")
def exp(x):
    """e^x of a float32 that is not positive, to 2 units in the last place; loops of it vectorise.

    Cody & Waite 1980, chapter 6: 2^n by its exponent's bits, the rest by a polynomial (Cephes).
    """
    x = max(x, LOWEST)
    n = np.floor(x * LOG2_E + np.float32(0.5))
    r = x - n * LN_2
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    bits = (np.int32(n) + np.int32(127)) << np.int32(23)
    return (p * r * r + r + np.float32(1.0)) * np.int32(bits).view(np.float32)


@njit(**FAST)
def _scaled(x, weight, eps, out):
    """RMSNorm (Zhang & Sennrich 2019, equation 4) of one vector."""
    total = np.float32(0.0)
    for i in range(x.shape[0]):
        total += x[i] * x[i]
    scale = np.float32(1.0) / np.sqrt(total / np.float32(x.shape[0]) + eps)
    for i in range(x.shape[0]):
        out[i] = x[i] * scale * weight[i]


def add_and_norm(words):
    """The residual stream takes in what a block made, and is normed for the next.

    words: tokens, stream, made, weight, out, width, eps.
    """
    w = carray(words, (MOST_WORDS,))
    tokens, width = w[0], w[5]
    stream, made = floats(w[1], (tokens, width)), floats(w[2], (tokens, width))
    weight, out = floats(w[3], (width,)), floats(w[4], (tokens, width))
    eps = floats(w[6], (1,))[0]
    for t in range(part(), tokens, parts()):
        for i in range(width):
            stream[t, i] += made[t, i]
        _scaled(stream[t], weight, eps, out[t])


@njit(**FAST)
def _rotate(vector, cos, sin):
    """Turn the pairs (i, i + half) of a head (Su et al. 2021, equation 34, as Llama lays it)."""
    half = cos.shape[0]
    for i in range(half):
        low, high = vector[i], vector[i + half]
        vector[i] = low * cos[i] - high * sin[i]
        vector[i + half] = high * cos[i] + low * sin[i]


def place(words):
    """Norm (Qwen3) and rotate queries and keys in place, and put keys and values into the pool.

    words: tokens, qkv, heads, key heads, size, cos, sin, context, rows, positions, tables, blocks
    of a row, keys, values, norms (0: none; of a query and a key, each of a head's size), eps.
    """
    w = carray(words, (MOST_WORDS,))
    tokens, heads, kv, size, half = w[0], w[2], w[3], w[4], w[4] // 2
    qkv = floats(w[1], (tokens, heads + 2 * kv, size))
    cos, sin = floats(w[5], (w[7], half)), floats(w[6], (w[7], half))
    rows, positions = ints(w[8], (tokens,)), ints(w[9], (tokens,))
    tables = ints(w[10], (MANY, w[11]))
    keys, values = (
        floats(w[12], (MANY, kv, BLOCK, size)),
        floats(w[13], (MANY, kv, BLOCK, size)),
    )
    for t in range(part(), tokens, parts()):
        position = positions[t]
        for h in range(heads + kv):
            if w[14]:
                norm = floats(w[14] + (size * 4 if h >= heads else 0), (size,))
                _scaled(qkv[t, h], norm, floats(w[15], (1,))[0], qkv[t, h])
            _rotate(qkv[t, h], cos[position], sin[position])
        block, place = tables[rows[t], position // BLOCK], position % BLOCK
        for h in range(kv):
            for i in range(size):
                keys[block, h, place, i] = qkv[t, heads + h, i]
                values[block, h, place, i] = qkv[t, heads + kv + h, i]


@njit(**FAST)
def _attend(query, table, head, length, keys, values, scores, out):
    """One head of one token over `length` positions: softmax(q K^T / sqrt(size)) V."""
    size = query.shape[0]
    scale = np.float32(1.0) / np.sqrt(np.float32(size))
    largest = np.float32(-np.inf)
    for first in range(0, length, BLOCK):
        block = keys[table[first // BLOCK], head]
        for j in range(min(BLOCK, length - first)):
            key = block[j]
            dot = np.float32(0.0)
            for i in range(size):
                dot += query[i] * key[i]
            dot *= scale
            scores[first + j] = dot
            largest = max(largest, dot)
    total = np.float32(0.0)
    for j in range(length):
        weight = exp(scores[j] - largest)
        scores[j] = weight
        total += weight
    out[:] = np.float32(0.0)
    for first in range(0, length, BLOCK):
        block = values[table[first // BLOCK], head]
        for j in range(min(BLOCK, length - first)):
            weight, value = scores[first + j], block[j]
            for i in range(size):
                out[i] += weight * value[i]
    for i in range(size):
        out[i] /= total


def attend(words):
    """Causal attention of every token over its row's blocks.

    words: tokens, qkv, heads, key heads, size, rows, positions, tables, blocks of a row, keys,
    values, scores (room for a row's positions for each thread), positions of a row, out.
    """
    w = carray(words, (MOST_WORDS,))
    tokens, heads, kv, size = w[0], w[2], w[3], w[4]
    qkv, out = floats(w[1], (tokens, heads + 2 * kv, size)), floats(w[13], (tokens, heads, size))
    rows, positions = ints(w[5], (tokens,)), ints(w[6], (tokens,))
    tables = ints(w[7], (MANY, w[8]))
    shape = (MANY, kv, BLOCK, size)
    keys, values = floats(w[9], shape), floats(w[10], shape)
    me = part()
    scores = floats(w[11] + me * w[12] * 4, (w[12],))
    group = heads // kv
    for item in range(me, tokens * heads, parts()):
        t, h = item // heads, item % heads
        table = tables[rows[t]]
        _attend(
            qkv[t, h], table, h // group, positions[t] + 1, keys, values, scores, out[t, h]
        )  # fmt: skip


def gate(words):
    """SwiGLU (Shazeer 2020, equation 6): silu(gate) x up. words: tokens, gate_up, out, width."""
    w = carray(words, (MOST_WORDS,))
    tokens, width = w[0], w[3]
    both, out = floats(w[1], (tokens, 2, width)), floats(w[2], (tokens, width))
    one = np.float32(1.0)
    for t in range(part(), tokens, parts()):
        for i in range(width):
            g = both[t, 0, i]
            small = exp(-abs(g))  # sigmoid without overflow: of -|g|
            share = one / (one + small)
            out[t, i] = g * (share if g >= 0 else small * share) * both[t, 1, i]


ADD_AND_NORM, PLACE, ATTEND, GATE = (kernel(body) for body in (add_and_norm, place, attend, gate))
