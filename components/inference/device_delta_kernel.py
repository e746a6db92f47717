"""Low-rank deltas of a GPU, in Triton: a product of each row with its own matrices.

    y = scale * (y + B (A x))      A (inputs, rank), B (rank, outputs)

A program has one row and some neighbouring outputs of one of the checkpoint's matrices that lie
side by side in y. It makes A x for itself: A is small, and reading it again from the cache takes
less time than a second kernel does to begin (Punica has one for A and one for B; Chen et al. 2023).
A row that has no delta costs a look at its mark.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl

TILE = 16  # tokens of one row that are multiplied together
TAKEN = 256  # inputs at a time
COLUMNS = 64  # outputs at a time
SPANS = 16  # programs that a row is worth at most, for each matrix: each makes A x anew
MATRICES, SCALE = 1, 2  # what a mark says that a row has


class Lines(NamedTuple):
    """Deltas of a rectangle's rows, for one product.

    marks: (rows,), int32, of MATRICES and SCALE; a, b: vectors that begin with A (matrices side by
    side, inputs, rank) and with B (rank, outputs), (rows, at least so many numbers); scales: the
    same, (rows, at least outputs).
    """

    marks: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    scales: torch.Tensor
    rank: int


@triton.jit
def _add_deltas(
    x,
    y,
    marks,
    a,
    b,
    scales,
    of_adapter,
    of_scales,
    tokens,
    inputs,
    end_0,
    end_1,
    end_2,
    RANK: tl.constexpr,
    TOKENS: tl.constexpr,
    COUNT: tl.constexpr,
    WIDE: tl.constexpr,
    SPAN: tl.constexpr,
    MATRICES: tl.constexpr,
    SCALE: tl.constexpr,
):
    """TOKENS tokens of a row, and SPAN outputs, WIDE at a time; COUNT inputs at a time."""
    row, part, tile = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    mark = tl.load(marks + row)
    if mark != 0:
        parts_0 = tl.cdiv(end_0, SPAN)
        parts_1 = parts_0 + tl.cdiv(end_1 - end_0, SPAN)
        matrix, first, end = 0, part * SPAN, end_0
        if part >= parts_1:
            matrix, first, end = 2, end_1 + (part - parts_1) * SPAN, end_2
        elif part >= parts_0:
            matrix, first, end = 1, end_0 + (part - parts_0) * SPAN, end_1
        token = tile * TOKENS + tl.arange(0, TOKENS)
        asked = token < tokens
        line = row * tokens + token
        ranks = tl.arange(0, RANK)
        low = tl.zeros((TOKENS, RANK), tl.float32)
        if mark & MATRICES:
            begin = a + row * of_adapter + matrix * (inputs * RANK)
            if TOKENS == 1:
                sums = tl.zeros((COUNT, RANK), tl.float32)
                for start in range(0, inputs, COUNT):
                    taken = start + tl.arange(0, COUNT)
                    there = taken < inputs
                    read = tl.load(x + row * inputs + taken, mask=there, other=0.0)
                    shrink = tl.load(
                        begin + (taken * RANK)[:, None] + ranks[None, :],
                        mask=there[:, None],
                        other=0.0,
                    )
                    sums += read.to(tl.float32)[:, None] * shrink.to(tl.float32)
                low += tl.sum(sums, 0)[None, :]
            else:
                for start in range(0, inputs, COUNT):
                    taken = start + tl.arange(0, COUNT)
                    there = taken < inputs
                    read = tl.load(
                        x + (line * inputs)[:, None] + taken[None, :],
                        mask=asked[:, None] & there[None, :],
                        other=0.0,
                    )
                    shrink = tl.load(
                        begin + (taken * RANK)[:, None] + ranks[None, :],
                        mask=there[:, None],
                        other=0.0,
                    )
                    low += tl.dot(read, shrink, input_precision="ieee")
        for start in range(0, SPAN, WIDE):
            output = first + start + tl.arange(0, WIDE)
            kept = output < end
            into = y + (line * end_2)[:, None] + output[None, :]
            written = asked[:, None] & kept[None, :]
            made = tl.load(into, mask=written, other=0.0).to(tl.float32)
            if mark & MATRICES:
                expand = tl.load(
                    b + row * of_adapter + (ranks * end_2)[:, None] + output[None, :],
                    mask=kept[None, :],
                    other=0.0,
                )
                if TOKENS == 1:
                    made += tl.sum(tl.trans(low) * expand.to(tl.float32), 0)[None, :]
                else:
                    made += tl.dot(low.to(expand.dtype), expand, input_precision="ieee")
            if mark & SCALE:
                scale = tl.load(scales + row * of_scales + output, mask=kept, other=0.0)
                made *= scale.to(tl.float32)[None, :]
            tl.store(into, made.to(y.dtype.element_ty), mask=written)


def add_deltas(x: torch.Tensor, y: torch.Tensor, lines: Lines, ends: Sequence[int]) -> None:
    """Change y, what a product made of x, by the delta of each row.

    x: (rows * tokens, inputs); y: (rows * tokens, outputs); ends: where each of the matrices ends
    that lie side by side in y, three at most.
    """
    rows, inputs = len(lines.marks), x.shape[1]
    tokens = len(x) // rows
    tile = 1 if tokens == 1 else TILE
    borders = [*ends, *[ends[-1]] * (3 - len(ends))]
    sizes = [end - start for start, end in zip([0, *borders], borders, strict=False)]
    span = max(COLUMNS, triton.next_power_of_2(triton.cdiv(max(sizes), SPANS)))
    parts = sum(triton.cdiv(size, span) for size in sizes)
    _add_deltas[(rows, parts, triton.cdiv(tokens, tile))](
        x,
        y,
        lines.marks,
        lines.a,
        lines.b,
        lines.scales,
        lines.a.stride(0),
        lines.scales.stride(0),
        tokens,
        inputs,
        *borders,
        RANK=lines.rank,
        TOKENS=tile,
        COUNT=TAKEN,
        WIDE=COLUMNS,
        SPAN=span,
        MATRICES=MATRICES,
        SCALE=SCALE,
    )
