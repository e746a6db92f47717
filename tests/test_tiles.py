"""Products and softmax in registers, and how tokens are split into tiles, held against NumPy."""

import numpy as np
import pytest
from numba import njit

from components.inference.decoder import tiles
from components.inference.registers import LANES, soften
from components.inference.tiles import (
    NARROW,
    ROWS,
    multiply,
    multiply_narrow,
    multiply_pair,
    multiply_streamed,
)


@njit
def product(x, panel, out, many, adds, narrow):
    if narrow:
        multiply_narrow(x, panel, out, many, adds)
    else:
        multiply(x, panel, out, many, adds)


@njit
def streamed(x, panel, out, many, adds):
    multiply_streamed(x, panel, out, many, adds)


@njit
def pair(x, panels, out, many, adds):
    multiply_pair(x, panels[:, :LANES], panels[:, LANES:], out, many, adds)


@njit
def softened(row, scale):
    return soften(row, len(row), scale)


@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize("size", [1, 3, 4, 33])  # four accumulators, and what does not fill them
def test_products_are_numpys_and_touch_nothing_else(size, many, adds):
    random = np.random.default_rng(size)
    x = random.normal(size=(ROWS, size + 5)).astype(np.float32)[:, :size]  # lines of a larger array
    for lanes, narrow in ((LANES, False), (NARROW, True)):
        panel = random.normal(size=(size, lanes + 8)).astype(np.float32)[:, :lanes]
        out = np.ones((ROWS + 1, lanes + 3), np.float32)
        product(x, panel, out, many, adds, narrow)
        rows = ROWS if many else 1
        expected = np.ones_like(out)
        expected[:rows, :lanes] = adds + x[:rows].astype(np.float64) @ panel
        np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("many", [True, False])
def test_two_panels_at_once_and_streamed_ones_are_the_same_products(many, adds):
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, 33)).astype(np.float32)
    panels = random.normal(size=(33, 2 * LANES)).astype(np.float32)
    rows = ROWS if many else 1
    for multiplies, lanes in ((pair, 2 * LANES), (streamed, LANES)):
        out = np.ones((ROWS + 1, 2 * LANES + 3), np.float32)
        multiplies(x, panels[:, :lanes], out, many, adds)
        expected = np.ones_like(out)
        expected[:rows, :lanes] = adds + x[:rows].astype(np.float64) @ panels[:, :lanes]
        np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_softened_rows_are_a_softmax(scale):
    row = np.random.default_rng(0).normal(size=5 * LANES).astype(np.float32) * 20
    row[7] = -1e30  # what must not be seen
    exact = np.exp(scale * (row.astype(np.float64) - row.max()))
    total = softened(row, np.float32(scale))
    assert total == pytest.approx(exact.sum(), rel=1e-5)
    np.testing.assert_allclose(row, exact, rtol=1e-5, atol=1e-37)


def test_tiles_end_where_a_row_ends_or_skips_a_position():
    rows = np.array([4, 2, 2, 2, *[0] * 19, 1])
    positions = np.array([9, 0, 1, 3, *range(5, 24), 24])
    firsts, counts = tiles(rows, positions - np.arange(len(rows)))
    assert list(zip(firsts.tolist(), counts.tolist(), strict=True)) == [
        (0, 1), (1, 2), (3, 1), (4, 8), (12, 8), (20, 3), (23, 1)
    ]  # fmt: skip
    assert [len(found) for found in tiles(np.zeros(0, int))] == [0, 0]
