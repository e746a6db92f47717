"""What a step does between its matrix products: norms and gates; attention has a file of its own.

Each kernel is called by all threads of a crew, and each thread takes every n-th item, so that rows
of unlike lengths are spread evenly. Arrays are float32 in C order.
"""

import numpy as np
from numba import carray, njit

from components.inference.compiling import kernel, routine
from components.inference.threads import MOST_WORDS, floats, part, parts

LOG2_E = np.float32(1.4426950408889634)
LN_2 = np.float32(0.6931471805599453)
LOWEST = np.float32(-87.0)  # below that float32 has no normal exp
SERIES = tuple(  # of (e^r - 1 - r) / r^2, the highest power first
    np.float32(term)
    for term in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2,
                 1.6666665459e-1, 5.0000001201e-1)
)  # fmt: skip


@njit(inline="always", fastmath=True, error_model="numpy")
def exp(x):
    """e^x of a float32 that is not positive, to 2 units in the last place; loops of it vectorise.

    Cody & Waite 1980, chapter 6: 2^n by its exponent's bits, the rest by a polynomial (Cephes).
    """
    x = max(x, LOWEST)
    n = np.floor(x * LOG2_E + np.float32(0.5))
    r = x - n * LN_2
    p = SERIES[0]
    for power in range(1, len(SERIES)):
        p = p * r + SERIES[power]
    bits = (np.int32(n) + np.int32(127)) << np.int32(23)
    return (p * r * r + r + np.float32(1.0)) * np.int32(bits).view(np.float32)


@routine
def scaled(x, weight, eps, out):
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
        scaled(stream[t], weight, eps, out[t])


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


ADD_AND_NORM, GATE = kernel(add_and_norm), kernel(gate)
