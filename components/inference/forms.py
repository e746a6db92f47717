"""A step as rectangles of rows and tokens, each filled up to one of a few sizes.

A graph of a GPU's operations is replayed as it was captured: with those sizes, at those addresses.
So the tokens of a step are split into rectangles,

    16 rows that write one token each     16 x 1      filled up to 16 x 1
    a row that reads 40 of its prompt      1 x 40                   1 x 64

whose sizes are powers of two, and so is the number of blocks that a row has behind it.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from components.inference.attention_kernel import BLOCK
from components.inference.decoder import Step

FEWEST_TOKENS = 16  # of a prompt: a graph for each smaller number would save no time
FEWEST_BLOCKS = 4


class Part(NamedTuple):
    """Tokens of a step that follow each other: `rows` of one token, or some of one row."""

    first: int
    rows: int
    tokens: int

    @property
    def places(self) -> slice:
        return slice(self.first, self.first + self.rows * self.tokens)


class Inputs(NamedTuple):
    """Views of the numbers that a rectangle reads, int64.

    tokens, where: (rows * tokens,), ids and places among all positions of the pool; positions:
    (rows, tokens); tables: (rows, blocks).
    """

    tokens: np.ndarray | torch.Tensor
    where: np.ndarray | torch.Tensor
    positions: np.ndarray | torch.Tensor
    tables: np.ndarray | torch.Tensor


class Form(NamedTuple):
    """What a graph was captured for. blocks: of each row; rank: of the rows' deltas, 0 where none
    has matrices; scaled: whether one of them scales.
    """

    rows: int
    tokens: int
    blocks: int
    rank: int
    scaled: bool

    @property
    def count(self) -> int:
        return self.rows * self.tokens

    @property
    def size(self) -> int:
        """Of its inputs."""
        return 3 * self.count + self.rows * self.blocks

    def split(self, whole: np.ndarray | torch.Tensor) -> Inputs:
        """whole: (at least `size`,)."""
        count = self.count
        return Inputs(
            whole[:count],
            whole[count : 2 * count],
            whole[2 * count : 3 * count].reshape(self.rows, self.tokens),
            whole[3 * count : self.size].reshape(self.rows, self.blocks),
        )


def filled(count: int, fewest: int = 1) -> int:
    """The power of two that takes `count`, at least `fewest`."""
    return max(fewest, 1 << (count - 1).bit_length())


def parts(rows: np.ndarray) -> Iterator[Part]:
    """The rectangles of a step's tokens; rows: of each token."""
    borders = [0, *(np.flatnonzero(rows[1:] != rows[:-1]) + 1).tolist(), len(rows)]
    firsts, counts = borders[:-1], [last - first for first, last in pairwise(borders)]
    number = 0
    while number < len(counts):
        first, alone = firsts[number], 0
        while number + alone < len(counts) and counts[number + alone] == 1:
            alone += 1
        yield Part(first, alone, 1) if alone else Part(first, 1, counts[number])
        number += max(alone, 1)


def form_of(part: Part, positions: np.ndarray, rank: int, scaled: bool) -> Form:
    """positions: of its tokens."""
    blocks = filled(int(positions.max()) // BLOCK + 1, FEWEST_BLOCKS)
    tokens = 1 if part.tokens == 1 else filled(part.tokens, FEWEST_TOKENS)
    return Form(filled(part.rows), tokens, blocks, rank, scaled)


def write(
    into: np.ndarray, form: Form, part: Part, step: Step, tables: np.ndarray, spare: int
) -> None:
    """What a rectangle reads. tables: (rows, blocks of a row); spare: the block that tokens write
    to, and rows read from, with which the rectangle is filled up.
    """
    inputs, count = form.split(into), part.rows * part.tokens
    rows, positions = step.rows[part.places], step.positions[part.places]
    inputs.tokens[:], inputs.where[:], inputs.positions[:] = 0, spare * BLOCK, 0
    inputs.tables[:] = spare
    inputs.tokens[:count] = step.tokens[part.places]
    inputs.where[:count] = tables[rows, positions // BLOCK] * BLOCK + positions % BLOCK
    inputs.positions.reshape(-1)[:count] = positions
    width = min(form.blocks, tables.shape[1])
    inputs.tables[: part.rows, :width] = tables[rows[:: part.tokens], :width]
