"""A step as rectangles of rows and tokens, each filled up to one of a few sizes.

A graph of a GPU's operations is replayed as it was captured: with those sizes, at those addresses.
So the tokens of a step are split into rectangles,

    13 rows that write one token each       13 x 1     filled up to 16 x 1
    a row that reads 40 of its prompt        1 x 40                  1 x 64
    three that read 20, 28 and 7             3 x 28                  8 x 32

whose sizes are powers of two.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from components.inference.attention_kernel import BLOCK
from components.inference.decoder import Step
from components.inference.device_store import DeviceTables

FEWEST_TOKENS = 16  # of a prompt: a graph for each smaller number would save no time
READING = 8  # rows that read side by side: one or up to these, that there are not too many forms


class Part(NamedTuple):
    """Rows of a step that follow each other from token `first` on. counts: of their tokens."""

    first: int
    counts: tuple[int, ...]

    @property
    def places(self) -> slice:
        return slice(self.first, self.first + sum(self.counts))

    @property
    def starts(self) -> np.ndarray:
        """Where each row begins among the tokens of the part."""
        return np.cumsum((0, *self.counts[:-1]))

    def real(self, tokens: int) -> np.ndarray:
        """Where each token lies in a rectangle with rows of so many `tokens`."""
        shifts = np.arange(len(self.counts)) * tokens - self.starts
        return np.arange(sum(self.counts)) + np.repeat(shifts, self.counts)


class Inputs(NamedTuple):
    """Views of the numbers that a rectangle reads, int64.

    real, tokens, where: (rows * tokens,), as `Part.real`, ids, and places among all positions of
    the pool; positions: (rows, tokens); rows: of the batch, (rows,).
    """

    real: np.ndarray | torch.Tensor
    tokens: np.ndarray | torch.Tensor
    where: np.ndarray | torch.Tensor
    positions: np.ndarray | torch.Tensor
    rows: np.ndarray | torch.Tensor


class Form(NamedTuple):
    """What a graph was captured for. rank: that takes the rows' deltas, 0 where none has one."""

    rows: int
    tokens: int
    rank: int

    @property
    def count(self) -> int:
        return self.rows * self.tokens

    @property
    def size(self) -> int:
        """Of its inputs."""
        return 4 * self.count + self.rows

    def split(self, whole: np.ndarray | torch.Tensor) -> Inputs:
        """whole: (at least `size`,)."""
        count = self.count
        return Inputs(
            whole[:count],
            whole[count : 2 * count],
            whole[2 * count : 3 * count],
            whole[3 * count : 4 * count].reshape(self.rows, self.tokens),
            whole[4 * count : self.size],
        )


def filled(count: int, fewest: int = 1) -> int:
    """The power of two that takes `count`, at least `fewest`."""
    return max(fewest, 1 << (count - 1).bit_length())


def parts(rows: np.ndarray, most: int) -> Iterator[Part]:
    """The rectangles of a step's tokens. rows: of each token; most: tokens of a rectangle."""
    borders = [0, *(np.flatnonzero(rows[1:] != rows[:-1]) + 1).tolist(), len(rows)]
    counts = [last - first for first, last in pairwise(borders)]
    number = 0
    while number < len(counts):
        size = _together(counts[number:], most)
        yield Part(borders[number], tuple(counts[number : number + size]))
        number += size


def _together(counts: list[int], most: int) -> int:
    """How many of the next rows are one rectangle: all that write, or some that read."""
    if counts[0] == 1:
        return next((number for number, count in enumerate(counts) if count > 1), len(counts))
    longest, size = counts[0], 1
    for count in counts[1:READING]:
        longest = max(longest, count)
        if count == 1 or READING * filled(longest, FEWEST_TOKENS) > most:
            break
        size += 1
    return size


def form_of(part: Part, rank: int) -> Form:
    rows, longest = len(part.counts), max(part.counts)
    if longest == 1:
        return Form(filled(rows), 1, rank)
    return Form(1 if rows == 1 else READING, filled(longest, FEWEST_TOKENS), rank)


def forms(rows: int, most: int) -> Iterator[Form]:
    """Those of rows without deltas. rows: that write at most; most: tokens of a rectangle."""
    for power in range(filled(rows).bit_length()):
        yield Form(1 << power, 1, 0)
    for reading in (1, READING):
        tokens = FEWEST_TOKENS
        while reading * tokens <= most:
            yield Form(reading, tokens, 0)
            tokens *= 2


def write(into: np.ndarray, form: Form, part: Part, step: Step, tables: DeviceTables) -> None:
    """What a rectangle reads. It is filled up with the spare row, whose block no request has."""
    inputs, real = form.split(into), part.real(form.tokens)
    rows, positions = step.rows[part.places], step.positions[part.places]
    inputs.tokens[:], inputs.where[:], inputs.positions[:] = 0, tables.spare * BLOCK, 0
    inputs.real[: len(real)] = real
    inputs.tokens[real] = step.tokens[part.places]
    inputs.where[real] = tables.host[rows, positions // BLOCK] * BLOCK + positions % BLOCK
    inputs.positions.reshape(-1)[real] = positions
    inputs.rows[:] = tables.spare_row
    inputs.rows[: len(part.counts)] = rows[part.starts]
