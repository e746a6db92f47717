"""The product of a step's tokens and a matrix that lies in panels, as wide as a register.

    out (tokens, outputs)  =  x (tokens, inputs) @ panels (outputs / LANES, inputs, LANES)

A step of few tokens reads each number of the matrix from memory for a handful of products, so what
counts is that it is read once, in order, and ahead. Each thread has panels of its own. Sixteen
tokens at a time fill the registers with their sums. Where their lines lie a multiple of 4 KiB apart
they would push each other out of the first cache, so they are first laid side by side.
"""

import torch
from numba import carray, njit

from components.inference.kernels import FAST
from components.inference.threads import MOST_WORDS, floats, kernel, part, parts, run, wait
from components.inference.tiles import LANES, multiply_four, multiply_last, multiply_sixteen

TILE = 16  # tokens
SAME = 1024  # numbers: lines so far apart share places in the first cache


@njit(**FAST)
def _turn(x, out):
    """x (TILE, inputs) as (inputs, TILE)."""
    for first in range(0, x.shape[1], LANES):  # what is written stays in the first cache
        for t in range(TILE):
            for i in range(first, first + LANES):
                out[i, t] = x[t, i]


def multiply_panels(words):
    """words: tokens, x, panels, out, inputs, outputs (a multiple of LANES), turned: 0, or room for
    whole tiles of x (tokens / TILE, inputs, TILE), where inputs are a multiple of LANES.
    """
    w = carray(words, (MOST_WORDS,))
    tokens, inputs, outputs, count = w[0], w[4], w[5], w[5] // LANES
    x, out = floats(w[1], (tokens, inputs)), floats(w[3], (tokens, outputs))
    panels = floats(w[2], (count, inputs, LANES))
    panel, last = part() * count // parts(), (part() + 1) * count // parts()
    if w[6]:
        tiles = floats(w[6], (tokens // TILE, inputs, TILE))
        for tile in range(part(), tokens // TILE, parts()):
            _turn(x[tile * TILE : (tile + 1) * TILE], tiles[tile])
        wait()
        for of_panel in range(panel, last):
            for tile in range(tokens // TILE):
                to = out[tile * TILE :, of_panel * LANES :]
                multiply_sixteen(tiles[tile], panels[of_panel], to)
        done = tokens // TILE * TILE
        x, out = x[done:], out[done:]
    while panel + 4 <= last:
        multiply_four(x, panels[panel : panel + 4], out[:, panel * LANES :])
        panel += 4
    while panel < last:
        multiply_last(x, panels[panel], out[:, panel * LANES :])
        panel += 1


MULTIPLY_PANELS = kernel(multiply_panels)


def multiply(x: torch.Tensor, panels: torch.Tensor, out: torch.Tensor) -> None:
    """Write the product to `out` (tokens, outputs); all of them lie densely, in float32."""
    tokens, inputs = x.shape
    words = (tokens, x.data_ptr(), panels.data_ptr(), out.data_ptr(), inputs, out.shape[1])
    if tokens < TILE or inputs % SAME:
        run(MULTIPLY_PANELS, *words)
    else:
        turned = torch.empty(tokens // TILE * TILE * inputs)
        run(MULTIPLY_PANELS, *words, turned.data_ptr())
