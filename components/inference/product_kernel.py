"""The product of a step's tokens and a matrix that lies in panels, as wide as a register.

    out (tokens, outputs)  =  x (tokens, inputs) @ panels (outputs / LANES, inputs, LANES)

A step of few tokens reads each number of the matrix from memory for a handful of products, so what
counts is that it is read once, in order, and ahead. Each thread has panels of its own. Sixteen
tokens at a time fill the registers with their sums. Where their lines lie a multiple of 4 KiB apart
they would push each other out of the first cache, so they are first laid side by side.
"""

import torch
from numba import carray

from components.inference.compiling import kernel, routine
from components.inference.registers import LANES
from components.inference.threads import (
    MOST_WORDS,
    floats,
    halves,
    part,
    parts,
    run,
    wait,
)
from components.inference.tiles import multiply_four, multiply_last, multiply_sixteen

TILE = 16  # tokens
SAME = 1024  # numbers: lines so far apart share places in the first cache


@routine
def _turn(x, out):
    """x (TILE, inputs) as (inputs, TILE)."""
    for first in range(0, x.shape[1], LANES):  # what is written stays in the first cache
        for t in range(TILE):
            for i in range(first, first + LANES):
                out[i, t] = x[t, i]


@routine
def _multiply(x, panels, out, room):
    """x (tokens, inputs), panels, out (tokens, outputs). room: an address, see `words` below."""
    tokens, inputs = x.shape
    panel, last = part() * len(panels) // parts(), (part() + 1) * len(panels) // parts()
    done = 0
    if room:
        tiles = floats(room, (tokens // TILE, inputs, TILE))
        for tile in range(part(), tokens // TILE, parts()):
            _turn(x[tile * TILE : (tile + 1) * TILE], tiles[tile])
        wait()
        for of_panel in range(panel, last):
            for tile in range(tokens // TILE):
                to = out[tile * TILE :, of_panel * LANES :]
                multiply_sixteen(tiles[tile], panels[of_panel], to)
        done = tokens // TILE * TILE
    while panel + 4 <= last:
        multiply_four(x[done:], panels[panel : panel + 4], out[done:, panel * LANES :])
        panel += 4
    while panel < last:
        multiply_last(x[done:], panels[panel], out[done:, panel * LANES :])
        panel += 1


def multiply_exact(words):
    """words: tokens, x, panels, out, inputs, outputs (a multiple of LANES), room: 0, or for whole
    tiles of x (tokens / TILE, inputs, TILE) to be turned, where inputs are a multiple of LANES.
    """
    w = carray(words, (MOST_WORDS,))
    panels = floats(w[2], (w[5] // LANES, w[4], LANES))
    _multiply(floats(w[1], (w[0], w[4])), panels, floats(w[3], (w[0], w[5])), w[6])


def multiply_rounded(words):
    """As `multiply_exact`, with panels of bfloat16, and what comes out rounded to it."""
    w = carray(words, (MOST_WORDS,))
    panels = halves(w[2], (w[5] // LANES, w[4], LANES))
    _multiply(floats(w[1], (w[0], w[4])), panels, floats(w[3], (w[0], w[5])), w[6])


KERNELS = {torch.float32: kernel(multiply_exact), torch.bfloat16: kernel(multiply_rounded)}


def multiply(x: torch.Tensor, panels: torch.Tensor, out: torch.Tensor) -> None:
    """Write the product to `out` (tokens, outputs), as exact as the panels are, in float32. All of
    them lie densely.
    """
    assert x.is_contiguous() and panels.is_contiguous() and out.is_contiguous()
    tokens, inputs = x.shape
    compiled = KERNELS[panels.dtype]
    words = (tokens, x.data_ptr(), panels.data_ptr(), out.data_ptr(), inputs, out.shape[1])
    if tokens < TILE or inputs % SAME:
        run(compiled, *words)
    else:
        turned = torch.empty(tokens // TILE * TILE * inputs)
        run(compiled, *words, turned.data_ptr())
