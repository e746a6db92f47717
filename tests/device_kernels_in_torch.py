"""What a GPU's kernels (`components.inference.device_*kernel*`) are to do, in torch's operations.

Tests hold the kernels against these, and on a processor let them stand in for the kernels, which
Triton's interpreter is too slow for in whole passes.
"""

import torch
from torch.nn import functional

from components.inference.device_delta_kernel import MATRICES, SCALE


def add_and_norm(stream, made, weight, normed, eps):
    stream += made
    normed.copy_(functional.rms_norm(stream, weight.shape, weight, eps))


def gate(both, gated):
    gates, ups = both.float().chunk(2, 1)
    gated.copy_(functional.silu(gates) * ups)


def place(qkv, held, norms, turns, at, shape):
    by_head = qkv.view(len(qkv), -1, shape.size)
    turned = by_head[:, : shape.heads + shape.key_heads].float()
    if norms is not None:
        counts = torch.tensor([shape.heads, shape.key_heads], device=qkv.device)
        of_heads = norms.repeat_interleave(counts, 0)
        turned = functional.rms_norm(turned, (shape.size,), None, shape.eps) * of_heads
    cos, sin = (table[at.positions.flatten()][:, None] for table in turns)
    low, high = turned.chunk(2, 2)
    turned = torch.cat([low * cos - high * sin, high * cos + low * sin], 2)
    by_head[:, : shape.heads] = turned[:, : shape.heads].to(qkv)
    into = held.view(-1, 2 * shape.key_heads, shape.size)
    keys, values = turned[:, shape.heads :].to(qkv), by_head[:, shape.heads + shape.key_heads :]
    into[at.where] = torch.cat([keys, values], 1)


def attend(qkv, held, at, attended, shape):
    rows, tokens = at.positions.shape
    behind = held[at.tables[at.rows]].view(rows, -1, 2 * shape.key_heads, shape.size)
    keys, values = behind.transpose(1, 2).chunk(2, 1)  # (rows, key heads, places, size)
    queries = qkv.view(rows, tokens, -1, shape.size)[:, :, : shape.heads].transpose(1, 2)
    seen = torch.arange(keys.shape[2], device=qkv.device) <= at.positions[:, None, :, None]
    found = functional.scaled_dot_product_attention(queries, keys, values, seen, enable_gqa=True)
    attended.copy_(found.transpose(1, 2).reshape(len(qkv), -1))


def add_deltas(x, y, lines, ends):
    rows, inputs, outputs = len(lines.marks), x.shape[1], ends[-1]
    for row, mark in enumerate(lines.marks.tolist()):
        tokens = slice(row * len(x) // rows, (row + 1) * len(x) // rows)
        if mark & MATRICES:
            a = lines.a[row, : len(ends) * inputs * lines.rank].view(-1, inputs, lines.rank)
            b = lines.b[row, : lines.rank * outputs].view(lines.rank, outputs)
            for number, (first, end) in enumerate(zip([0, *ends], ends, strict=False)):
                y[tokens, first:end] += x[tokens] @ a[number] @ b[:, first:end]
        if mark & SCALE:
            y[tokens] *= lines.scales[row, :outputs]
