"""Where a plain copy of a matrix is worth its memory: `python bench/products.py`.

A decoder's products in float32 with weights laid out for oneDNN, and by PyTorch from a plain copy
of them, for steps of few rows and matrices of several sizes, in turns, medians. A step goes through
many matrices, so as many stand in memory. `components/inference/product.py` keeps a plain copy of a
matrix of up to `SMALL` numbers, for steps of up to `FEW` rows. `--json FILE` writes the table.

Steps of so few rows have one thread where the decoder is small (`decoder.SHARE`), and so have these
products; `--threads 2` is what a large one sees.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from components.inference.product import FEW, SMALL, Packed, Product

ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
SHAPES = ((256, 256), (512, 256), (512, 512), (1024, 512), (1024, 1024), (2048, 1024), (2048, 2048))
MOST, LAID_OUT = 24, 1 << 27  # matrices of six layers, and bytes of them, at most
MICRO = 1e6


def kinds(shape: tuple[int, int]) -> dict[str, Sequence[Product | Packed]]:
    """The same matrices (outputs, inputs), as each library has them."""
    count = min(MOST, LAID_OUT // (4 * shape[0] * shape[1]))
    matrices = [torch.randn(shape) for _ in range(count)]
    reorder = torch.ops.mkldnn._reorder_linear_weight
    return {
        "plain": [Product(matrix.t().contiguous(), None, ()) for matrix in matrices],
        "onednn": [Packed(reorder(matrix), None, None, ()) for matrix in matrices],
    }


def step(products: Sequence[Product | Packed], x: torch.Tensor, out: torch.Tensor) -> float:
    """Seconds of a product by each matrix."""
    started = time.perf_counter()
    for product in products:
        product.into(x, out)
    return time.perf_counter() - started


def measure(shape: tuple[int, int], rounds: int) -> dict[int, dict[str, float]]:
    """Microseconds of a product, and the plain one's part of oneDNN's; by rows of a step."""
    made = kinds(shape)
    table = {}
    for rows in ROWS:
        x, out = torch.randn(rows, shape[1]), torch.empty(rows, shape[0])
        taken: dict[str, list[float]] = {name: [] for name in made}
        for _ in range(rounds):  # a busy machine slows both
            for name, products in made.items():
                step(products, x, out)  # the caches hold what an earlier step of its own left
                taken[name].append(MICRO * step(products, x, out) / len(products))
        medians = {name: round(statistics.median(t), 1) for name, t in taken.items()}
        table[rows] = medians | {"ratio": round(medians["plain"] / medians["onednn"], 2)}
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    told = {}
    print(f"microseconds, plain / oneDNN; kept are copies up to {SMALL} numbers for {FEW} rows")
    print(f"{'matrix':>12} {'numbers':>9}", *(f"{rows:>11}" for rows in ROWS))
    for shape in SHAPES:
        table = told["x".join(map(str, shape))] = measure(shape, asked.rounds)
        cells = (f"{row['plain']:.0f}/{row['onednn']:.0f}" for row in table.values())
        print(
            f"{shape[0]:>7}x{shape[1]}", f"{shape[0] * shape[1]:>9}", *(f"{c:>11}" for c in cells)
        )
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
