"""Matrix products that stay in registers: a few rows times a panel as wide as a vector register.

A single row would wait for its last sum at each line: it has four accumulators and adds them up, or
as many panels at once. `registers` has the instructions.
"""

import llvmlite.binding as llvm
import numpy as np
from numba import njit

from components.inference.registers import LANES, LINE, product

NARROW = 8
WIDEST = llvm.get_host_cpu_features().get("avx512f", False)  # 16 sums and more fit in registers
AHEAD = 4096  # bytes; with less of them memory was waited for, with twice as many nothing was won
ROWS = 8  # accumulators that hide the latency of a multiplication


def aligned(count: int) -> np.ndarray:
    """So many noughts in float32 from the beginning of a cache line on: a register that lies across
    two lines is loaded twice. Pages of them that nobody touches take no memory.
    """
    held = np.zeros(count + LANES, np.float32)
    return held[-held.ctypes.data % LINE // 4 :][:count]


def in_panels(matrix: np.ndarray, lanes: int) -> np.ndarray:
    """(lines, columns) as (panels, lines, lanes), the last panel filled up with zeros."""
    lines, columns = matrix.shape
    count = -(-columns // lanes)
    filled = np.zeros((lines, count * lanes), np.float32)
    filled[:, :columns] = matrix
    return filled.reshape(lines, count, lanes).transpose(1, 0, 2)


_many, _one, _one_streamed = (
    product(ROWS, LANES, 1), product(1, LANES, 4), product(1, LANES, 4, AHEAD)
)  # fmt: skip
_many_narrow, _one_narrow = product(ROWS, NARROW, 1), product(1, NARROW, 4, AHEAD)
# of a step's weights; the sums of a row are the same whatever stands beside it
_sixteen_turned = product(16, LANES, 1, AHEAD, turned=True)
_sixteen, _eight, _four, _two, _single = (
    product(rows, LANES, 1, AHEAD) for rows in (16, 8, 4, 2, 1)
)


@njit(inline="always")
def multiply(x, panel, out, many, adds):
    """out (ROWS or 1, LANES) of x (ROWS or 1, n) and panel (n, LANES). many: ROWS rows."""
    if many:
        _many(x, (panel,), out, adds)
    else:
        _one(x, (panel,), out, adds)


@njit(inline="always")
def multiply_pair(x, left, right, out, many, adds):
    """As `multiply`, for two panels; out: (ROWS or 1, 2 LANES)."""
    if many and WIDEST:
        _many(x, (left, right), out, adds)
    else:
        multiply(x, left, out, many, adds)
        multiply(x, right, out[:, LANES:], many, adds)


@njit(inline="always")
def multiply_streamed(x, panel, out, many, adds):
    """As `multiply`, of panels that lie behind each other and are read once, from memory."""
    if many:
        _many(x, (panel,), out, adds)
    else:
        _one_streamed(x, (panel,), out, adds)


@njit(inline="always")
def multiply_narrow(x, panel, out, many, adds):
    """As `multiply_streamed`, with NARROW for LANES."""
    if many:
        _many_narrow(x, (panel,), out, adds)
    else:
        _one_narrow(x, (panel,), out, adds)


@njit(inline="always")
def multiply_sixteen(x, panel, out):
    """out (16, LANES) of x (n, 16) and panel (n, LANES), read once, from memory."""
    _sixteen_turned(x, (panel,), out, False)


@njit(inline="always")
def multiply_four(x, panels, out):
    """out (tokens, 4 LANES) of x (tokens, n) and panels (4, n, LANES), as `multiply_sixteen`."""
    tokens = x.shape[0]
    for panel in range(4):
        for t in range(0, tokens - 15, 16):
            _sixteen(x[t:], (panels[panel],), out[t:, panel * LANES :], False)
    all_four = (panels[0], panels[1], panels[2], panels[3])
    t = tokens & ~15
    if tokens & 8:
        _eight(x[t:], (panels[0], panels[1]), out[t:], False)
        _eight(x[t:], (panels[2], panels[3]), out[t:, 2 * LANES :], False)
        t += 8
    if tokens & 4:
        _four(x[t:], all_four, out[t:], False)
        t += 4
    if tokens & 2:
        _two(x[t:], all_four, out[t:], False)
        t += 2
    if tokens & 1:
        _single(x[t:], all_four, out[t:], False)


@njit(inline="always")
def multiply_last(x, panel, out):
    """As `multiply_four`, of one panel (n, LANES); slower, for what is left of a matrix."""
    tokens = x.shape[0]
    for t in range(0, tokens - 15, 16):
        _sixteen(x[t:], (panel,), out[t:], False)
    for t in range(tokens & ~15, tokens):
        _single(x[t:], (panel,), out[t:], False)
