"""Causal attention, fused and as compiled plain products: `python bench/attention.py`.

Forward and backward, for the tokens of one step of the small decoder in `bench/training.py`, in
contexts of several lengths. In turns, medians; `--json FILE` writes them.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

TOKENS, HEADS, SIZE = 4096, 8, 32  # of a step; heads and their dimensions
CONTEXTS = (128, 256, 512)


def contestants(context: int, kind):
    """Functions that run forward and backward once, by name."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention as fused

    torch.manual_seed(0)
    shape = (TOKENS // context, HEADS, context, SIZE)
    inputs = [torch.randn(shape).to(kind).requires_grad_() for _ in range(3)]
    upstream = torch.randn(shape).to(kind)
    hidden = torch.full((context, context), float("-inf")).triu(1)

    @torch.compile(dynamic=False)
    def plain(query, key, value):
        scores = (query @ key.transpose(-1, -2)) * SIZE**-0.5 + hidden
        return scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value

    def run(attention):
        made = attention(*inputs)
        torch.autograd.grad(made, inputs, upstream)

    return {
        "fused": lambda: run(lambda q, k, v: fused(q, k, v, is_causal=True)),
        "plain, compiled": lambda: run(plain),
    }


def measure(context: int, precision: str, rounds: int) -> dict[str, float]:
    """Milliseconds by name, and what the fused one takes over the plain one."""
    import torch

    taken: dict[str, list[float]] = {}
    running = contestants(context, getattr(torch, precision))
    for turn in range(rounds + 2):  # the first two compile and warm up
        for name, run in running.items():
            started = time.perf_counter()
            run()
            if turn > 1:
                taken.setdefault(name, []).append(1000 * (time.perf_counter() - started))
    medians = {name: round(statistics.median(times), 2) for name, times in taken.items()}
    ratio = medians["fused"] / medians["plain, compiled"]
    return medians | {"fused_over_plain": round(ratio, 2)}


def main() -> None:
    from components.training import machine

    machine.settle_memory(1 << 30)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    table = {
        f"{precision}, context {context}": measure(context, precision, asked.rounds)
        for precision in ("float32", "bfloat16")
        for context in CONTEXTS
    }
    for name, row in table.items():
        print(name, row)
    if asked.json:
        asked.json.write_text(json.dumps(table, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
