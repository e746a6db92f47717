"""Kernels of a GPU's forward pass, in Triton: norms and the gate.

They do what those of `kernels.py` do on the processor, and are called alike. A GPU's pass over a
few rows is made of operations that each take a few microseconds, so what counts is how few there
are: these read what they need once and leave nothing between them in memory. Without a GPU, Triton
interprets them where `TRITON_INTERPRET=1` is set, as the tests do.
"""

import torch
import triton
import triton.language as tl

GATED = 1024  # numbers of a program


@triton.jit
def _add_and_norm(
    stream, made, weight, normed, WIDTH: tl.constexpr, EPS: tl.constexpr, ROOM: tl.constexpr
):
    """A token of each program."""
    first = tl.program_id(0).to(tl.int64) * WIDTH
    places = tl.arange(0, ROOM)
    there = places < WIDTH
    x = tl.load(stream + first + places, mask=there, other=0.0)
    x += tl.load(made + first + places, mask=there, other=0.0).to(tl.float32)
    tl.store(stream + first + places, x, mask=there)
    x *= tl.rsqrt(tl.sum(x * x, 0) / WIDTH + EPS)
    x *= tl.load(weight + places, mask=there, other=0.0)
    tl.store(normed + first + places, x.to(normed.dtype.element_ty), mask=there)


def add_and_norm(
    stream: torch.Tensor,
    made: torch.Tensor,
    weight: torch.Tensor,
    normed: torch.Tensor,
    eps: float,
) -> None:
    """stream += made; normed = RMSNorm(stream) (Zhang and Sennrich 2019, equation 4).

    stream: (tokens, width), float32; made, normed: the same shape, of any precision.
    """
    tokens, width = stream.shape
    sizes = {"WIDTH": width, "EPS": eps, "ROOM": triton.next_power_of_2(width)}
    _add_and_norm[(tokens,)](stream, made, weight, normed, **sizes)


@triton.jit
def _gate(both, gated, AHEAD: tl.constexpr, COUNT: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * COUNT + tl.arange(0, COUNT)
    there = places < AHEAD
    gates = tl.load(both + token * 2 * AHEAD + places, mask=there, other=0.0).to(tl.float32)
    ups = tl.load(both + token * 2 * AHEAD + AHEAD + places, mask=there, other=0.0).to(tl.float32)
    made = gates * tl.sigmoid(gates) * ups
    tl.store(gated + token * AHEAD + places, made.to(gated.dtype.element_ty), mask=there)


def gate(both: torch.Tensor, gated: torch.Tensor) -> None:
    """gated = SiLU(gate) * up (Shazeer 2020). both: (tokens, gate and up); gated: (tokens, up)."""
    tokens, ahead = gated.shape
    _gate[(tokens, triton.cdiv(ahead, GATED))](both, gated, AHEAD=ahead, COUNT=GATED)
