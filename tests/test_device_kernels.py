"""A GPU's kernels beside torch's operations; without a GPU, Triton interprets them."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is for Linux alone")

from components.inference import device_attention_kernel as attention
from components.inference import device_delta_kernel as deltas
from components.inference import device_kernels as kernels
from components.inference.attention_kernel import BLOCK
from components.inference.checkpoint import Shape
from tests import device_kernels_in_torch as in_torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PRECISIONS = [torch.float32, torch.bfloat16]
MULTIPLIED = [
    torch.float32,
    pytest.param(
        torch.bfloat16,
        marks=pytest.mark.skipif(
            DEVICE == "cpu", reason="the interpreter multiplies bfloat16's bits as integers"
        ),
    ),
]
SHAPES = {  # heads, heads of keys, size of a head
    "one to each": (3, 3, 8),
    "shared": (4, 2, 12),
    "one for all": (3, 1, 16),
}


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, device=DEVICE).to(dtype)


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """As two sums of one precision may differ; the reference rounds more often."""
    off = 1e-5 if found.dtype == torch.float32 else 0.03
    torch.testing.assert_close(found, wanted, atol=off * wanted.abs().max().item(), rtol=off)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("width", [16, 40])
def test_norms(dtype, width):
    stream, made, weight = drawn(3, width), drawn(3, width, dtype=dtype), drawn(width)
    found, wanted = (torch.zeros_like(made) for _ in range(2))
    streams = stream.clone(), stream.clone()
    kernels.add_and_norm(streams[0], made, weight, found, 1e-5)
    in_torch.add_and_norm(streams[1], made, weight, wanted, 1e-5)
    close(streams[0], streams[1])
    close(found, wanted)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("ahead", [24, kernels.GATED + 8])
def test_gates(dtype, ahead):
    both = drawn(2, 2 * ahead, dtype=dtype)
    found, wanted = (torch.zeros(2, ahead, dtype=dtype, device=DEVICE) for _ in range(2))
    kernels.gate(both, found)
    in_torch.gate(both, wanted)
    close(found, wanted)


def shape_of(kind: str) -> Shape:
    heads, key_heads, size = SHAPES[kind]
    return Shape(1, heads * size, heads, key_heads, size, 0, 0, 256, 1e-5)


def places(positions: list[list[int]]) -> attention.Places:
    """Of rows whose blocks lie anywhere in a pool of 24."""
    at = torch.tensor(positions, device=DEVICE)
    tables = torch.randperm(24, device=DEVICE).view(-1, 8).int()
    rows = torch.randperm(3, device=DEVICE)[: len(at)]
    where = tables[rows].gather(1, at // BLOCK) * BLOCK + at % BLOCK
    return attention.Places(at, where.flatten(), rows, tables)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("normed", [False, True])
def test_heads_are_turned_and_put_into_the_pool(dtype, normed):
    shape, at = shape_of("shared"), places([[5, 6], [100, 101]])
    qkv = drawn(4, shape.heads + 2 * shape.key_heads, shape.size, dtype=dtype).flatten(1)
    held = drawn(24, BLOCK, 2 * shape.key_heads, shape.size, dtype=dtype)
    norms = drawn(2, shape.size) if normed else None
    angles = drawn(256, shape.size // 2)
    turns = angles.cos(), angles.sin()
    found, wanted = (qkv.clone(), held.clone()), (qkv.clone(), held.clone())
    attention.place(*found, norms, turns, at, shape)
    in_torch.place(*wanted, norms, turns, at, shape)
    queries = shape.heads * shape.size  # keys and values in place are read by none
    close(found[0][:, :queries], wanted[0][:, :queries])
    close(found[1], wanted[1])


@pytest.mark.parametrize("dtype", MULTIPLIED)
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(
    "positions",
    [
        pytest.param([[0], [127], [64]], id="writing"),
        pytest.param([[3, 4, 5], [0, 0, 0]], id="reading"),
        pytest.param([[*range(60, 80)]], id="many"),
    ],
)
def test_attention(dtype, kind, positions):
    shape, at = shape_of(kind), places(positions)
    count = at.positions.numel()
    qkv = drawn(count, shape.heads + 2 * shape.key_heads, shape.size, dtype=dtype).flatten(1)
    held = drawn(24, BLOCK, 2 * shape.key_heads, shape.size, dtype=dtype)
    found, wanted = (
        torch.zeros(count, shape.heads * shape.size, dtype=dtype, device=DEVICE) for _ in range(2)
    )
    attention.attend(qkv, held, at, found, shape)
    in_torch.attend(qkv, held, at, wanted, shape)
    close(found, wanted)


@pytest.mark.parametrize("dtype", MULTIPLIED)
@pytest.mark.parametrize("rank", [16, 32])
@pytest.mark.parametrize("tokens", [1, 20])
@pytest.mark.parametrize("ends", [(40,), (24, 48), (32, 100, 104)])
def test_deltas(dtype, rank, tokens, ends):
    """Of rows that have none, matrices, a scale, and both; among those of other layers."""
    inputs, outputs = deltas.TAKEN + 40, ends[-1]
    size = len(ends) * inputs * rank + rank * outputs
    held, scales = drawn(4, size + 32, dtype=dtype), drawn(4, outputs + 9, dtype=dtype)
    a, b = held[:, 16:], held[:, 16 + size - rank * outputs :]
    marks = torch.tensor([0, 1, 2, 3], dtype=torch.int32, device=DEVICE)
    lines = deltas.Lines(marks, a, b, scales[:, 9:], rank)
    x, y = drawn(4 * tokens, inputs, dtype=dtype), drawn(4 * tokens, outputs, dtype=dtype)
    found, wanted = y.clone(), y.clone()
    deltas.add_deltas(x, found, lines, ends)
    in_torch.add_deltas(x, wanted, lines, ends)
    close(found, wanted)
    assert found[:tokens].equal(y[:tokens])
