"""Attention over blocks, held against NumPy: tokens read and written, on one thread and more."""

import numpy as np
import pytest
import torch

from components.inference.attention_kernel import ATTEND, BLOCK, room
from components.inference.decoder import alone_last, tiles
from components.inference.registers import LANES
from components.inference.threads import Bound, set_crew
from components.inference.tiles import ROWS

HEADS, KEY_HEADS, POOL, LONGEST = 6, 2, 40, 8 * BLOCK
READ = ((0, 0, 19), (1, 70, 1), (2, 33, 8), (1, 127, 1))  # row, first position, tokens


def exact(queries, keys, values):
    scores = queries @ keys.T / np.sqrt(len(queries[0]))
    first = len(keys) - len(queries)
    scores[np.arange(len(keys)) > first + np.arange(len(queries))[:, None]] = -np.inf
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights @ values / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("crew", [1, 2, 3])
@pytest.mark.parametrize("size", [12, 32, 48])  # half a register, two, three
def test_attention_is_numpys(size, crew):
    random = np.random.default_rng(size)
    numbers = room(size)
    keys = random.normal(size=(POOL, KEY_HEADS, numbers, BLOCK)).astype(np.float32)
    values = random.normal(size=(POOL, KEY_HEADS, BLOCK, numbers)).astype(np.float32)
    tables = random.permutation(POOL)[: 3 * 8].reshape(3, 8).astype(np.int32)
    rows, positions = (
        np.concatenate(held).astype(np.int32)
        for held in zip(
            *((np.full(n, row), np.arange(first, first + n)) for row, first, n in READ), strict=True
        )
    )
    count = len(rows)
    qkv = random.normal(size=(count + ROWS, HEADS + 2 * KEY_HEADS, size)).astype(np.float32)
    out = np.zeros((count, HEADS, size), np.float32)
    found = alone_last(*tiles(rows, positions - np.arange(count)))
    firsts, counts = (held.astype(np.int32) for held in found)
    scores = np.zeros((crew, ROWS, LONGEST), np.float32)
    sums = np.zeros((crew, ROWS + 1, 2 * LANES), np.float32)
    sizes = (HEADS, KEY_HEADS, size, numbers)
    held = (rows, positions, tables, tables.shape[1], keys, values, 1)
    bound = Bound(ATTEND, qkv, *sizes, *held, firsts, counts, scores, sums, LONGEST, out)
    set_crew(crew)
    try:
        bound(len(firsts), crew)
    finally:
        set_crew(torch.get_num_threads())
    assert (sums[:, ROWS, 0] > 0).all()  # each thread has room of its own for its tiles
    place = 0
    for row, first, n in READ:
        for head in range(HEADS):
            shared = head * KEY_HEADS // HEADS
            of_row = keys[tables[row], shared, :size].transpose(0, 2, 1).reshape(-1, size)
            told = values[tables[row], shared].reshape(-1, numbers)[: first + n, :size]
            wanted = exact(qkv[place : place + n, head], of_row[: first + n], told)
            np.testing.assert_allclose(out[place : place + n, head], wanted, atol=1e-4)
        place += n
