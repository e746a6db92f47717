"""Rotary positions and attention of a GPU, in Triton, over keys and values in blocks of a pool.

They do what those of `attention_kernel.py` do on the processor. A program of `attend` has one head
of keys and some queries of one row: all heads that share those keys, for one token or several. It
goes over the row's positions in pieces and keeps a running maximum and sum (Milakov and Gimelshein
2018; Dao et al. 2022), so scores are never in memory, and only blocks that a row has are read.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from components.inference.attention_kernel import BLOCK
from components.inference.checkpoint import Shape

FEWEST = 16  # lines of a matrix that tensor cores multiply
PIECE = 64  # positions


class Places(NamedTuple):
    """Of a rectangle of rows and tokens. positions: (rows, tokens); where: (rows * tokens,), among
    all positions of the pool; rows: lines of tables, (rows,), all int64; tables: (lines, blocks of
    a row), int32.
    """

    positions: torch.Tensor
    where: torch.Tensor
    rows: torch.Tensor
    tables: torch.Tensor


@triton.jit
def _place(
    qkv,
    held,
    norms,
    cos,
    sin,
    positions,
    where,
    HEADS: tl.constexpr,
    KEY_HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    EPS: tl.constexpr,
    ROOM: tl.constexpr,
    NORMED: tl.constexpr,
):
    """A head of a token: of a query, of a key or of a value. ROOM: for half of its numbers."""
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    HALF: tl.constexpr = SIZE // 2
    places = tl.arange(0, ROOM)
    there = places < HALF
    vector = qkv + (token * (HEADS + 2 * KEY_HEADS) + head) * SIZE
    low = tl.load(vector + places, mask=there, other=0.0).to(tl.float32)
    high = tl.load(vector + HALF + places, mask=there, other=0.0).to(tl.float32)
    if head < HEADS + KEY_HEADS:
        if NORMED:
            factor = tl.rsqrt((tl.sum(low * low, 0) + tl.sum(high * high, 0)) / SIZE + EPS)
            norm = norms + (head >= HEADS).to(tl.int32) * SIZE
            low *= factor * tl.load(norm + places, mask=there, other=0.0)
            high *= factor * tl.load(norm + HALF + places, mask=there, other=0.0)
        turn = tl.load(positions + token) * HALF
        across = tl.load(cos + turn + places, mask=there, other=0.0)
        up = tl.load(sin + turn + places, mask=there, other=0.0)
        turned = low * across - high * up
        high = high * across + low * up
        low = turned
    if head < HEADS:
        into = vector
    else:
        into = held + (tl.load(where + token) * (2 * KEY_HEADS) + head - HEADS) * SIZE
    tl.store(into + places, low.to(qkv.dtype.element_ty), mask=there)
    tl.store(into + HALF + places, high.to(qkv.dtype.element_ty), mask=there)


def place(
    qkv: torch.Tensor,
    held: torch.Tensor,
    norms: torch.Tensor | None,
    turns: tuple[torch.Tensor, torch.Tensor],
    at: Places,
    shape: Shape,
) -> None:
    """Norm (Qwen3) and rotate queries in place; put keys, alike, and values into the pool.

    qkv: (tokens, numbers of all heads); held: of a layer (blocks, BLOCK, keys' and values' heads,
    size); norms: of a query and of a key, (2, size); turns: cosines and sines of the angles (Su et
    al. 2021, equation 34), each (context, half of size), float32.
    """
    sizes = {
        "HEADS": shape.heads,
        "KEY_HEADS": shape.key_heads,
        "SIZE": shape.size,
        "EPS": shape.eps,
        "ROOM": triton.next_power_of_2(shape.size // 2),
        "NORMED": norms is not None,
    }
    grid = (len(qkv), shape.heads + 2 * shape.key_heads)
    told = (turns[0] if norms is None else norms, *turns, at.positions, at.where)
    _place[grid](qkv, held, *told, **sizes, num_warps=1)


@triton.jit
def _attend(
    qkv,
    held,
    positions,
    rows,
    tables,
    attended,
    tokens,
    blocks,
    SCALE: tl.constexpr,
    HEADS: tl.constexpr,
    KEY_HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    ROOM: tl.constexpr,
    IN_BLOCK: tl.constexpr,
    QUERIES: tl.constexpr,
    COUNT: tl.constexpr,
):
    """A head of keys of a row, and QUERIES queries; COUNT positions at a time."""
    row, head, tile = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    GROUP: tl.constexpr = HEADS // KEY_HEADS
    query = tile * QUERIES + tl.arange(0, QUERIES)
    token = query // GROUP
    asked = token < tokens
    line = row * tokens + token
    number = head * GROUP + query % GROUP
    places = tl.arange(0, ROOM)
    there = places < SIZE
    table = tables + tl.load(rows + row) * blocks
    queries = tl.load(
        qkv + ((line * (HEADS + 2 * KEY_HEADS) + number) * SIZE)[:, None] + places[None, :],
        mask=asked[:, None] & there[None, :],
        other=0.0,
    )
    at = tl.load(positions + line, mask=asked, other=0)
    end = tl.max(at, 0) + 1
    best = tl.full((QUERIES,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    made = tl.zeros((QUERIES, ROOM), tl.float32)
    for first in range(0, end, COUNT):
        position = first + tl.arange(0, COUNT)
        near = position < end
        block = tl.load(table + position // IN_BLOCK, mask=near, other=0).to(tl.int64)
        source = (block * IN_BLOCK + position % IN_BLOCK) * (2 * KEY_HEADS) + head
        source = held + (source * SIZE)[:, None] + places[None, :]
        seen = near[:, None] & there[None, :]
        keys = tl.load(source, mask=seen, other=0.0)
        values = tl.load(source + KEY_HEADS * SIZE, mask=seen, other=0.0)
        if QUERIES == 1:
            scores = tl.sum(queries.to(tl.float32) * keys.to(tl.float32), 1)[None, :]
        else:
            scores = tl.dot(queries, tl.trans(keys), input_precision="ieee")
        scores = tl.where(position[None, :] <= at[:, None], scores * SCALE, float("-inf"))
        highest = tl.maximum(best, tl.max(scores, 1))
        weights = tl.exp(scores - highest[:, None])
        fade = tl.exp(best - highest)
        total = total * fade + tl.sum(weights, 1)
        if QUERIES == 1:
            found = tl.sum(tl.trans(weights) * values.to(tl.float32), 0)[None, :]
        else:
            found = tl.dot(weights.to(values.dtype), values, input_precision="ieee")
        made = made * fade[:, None] + found
        best = highest
    made /= total[:, None]
    tl.store(
        attended + ((line * HEADS + number) * SIZE)[:, None] + places[None, :],
        made.to(attended.dtype.element_ty),
        mask=asked[:, None] & there[None, :],
    )


def attend(
    qkv: torch.Tensor, held: torch.Tensor, at: Places, attended: torch.Tensor, shape: Shape
) -> None:
    """softmax(q K^T / sqrt(size)) V of each token over its row's positions up to its own.

    qkv, held: as `place` left them; attended: (tokens, heads * size).
    """
    rows, tokens = at.positions.shape
    queries = tokens * shape.heads // shape.key_heads
    tile = 1 if queries == 1 else FEWEST
    sizes = {
        "SCALE": shape.size**-0.5,
        "HEADS": shape.heads,
        "KEY_HEADS": shape.key_heads,
        "SIZE": shape.size,
        "ROOM": max(triton.next_power_of_2(shape.size), FEWEST),
        "IN_BLOCK": BLOCK,
        "QUERIES": tile,
        "COUNT": PIECE,
    }
    grid = (rows, shape.key_heads, triton.cdiv(queries, tile))
    told = (at.positions, at.rows, at.tables, attended, tokens, at.tables.shape[1])
    _attend[grid](qkv, held, *told, **sizes)
