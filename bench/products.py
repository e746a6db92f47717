"""Which products a decoder should have: `python bench/products.py`.

PyTorch's own of a plain matrix, oneDNN's of one laid out for it, and our kernel's of panels
(`components/inference/product_kernel.py`), by the tokens of a step, in turns, medians; with
`--precision bfloat16` the last two. A step goes through many matrices, so as many stand in memory.
The shapes are those of the decoders of `bench/serving.py`, outputs x inputs. `--json FILE` writes
the table.
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

from components.inference.product import (
    BFLOAT16,
    DTYPES,
    FLOAT32,
    AnyProduct,
    Packed,
    Panels,
    Product,
)
from components.inference.threads import set_crew

TOKENS = (1, 2, 4, 8, 16, 32, 144)
SMALL = ((768, 256), (256, 256), (1408, 256), (256, 704), (4096, 256))  # 5.8 M parameters
LARGE = ((2304, 768), (768, 768), (4096, 768), (768, 2048))  # 124 M
MOST, LAID_OUT = 24, 1 << 27  # matrices of six layers, and bytes of them, at most
MICRO = 1e6


def kinds(shape: tuple[int, int], precision: str) -> dict[str, Sequence[AnyProduct]]:
    """The same matrices (outputs, inputs), as each library has them."""
    count = min(MOST, LAID_OUT // (4 * shape[0] * shape[1]))
    matrices = [torch.randn(shape).to(DTYPES[precision]) for _ in range(count)]
    reorder = torch.ops.mkldnn._reorder_linear_weight
    plain = [Product(matrix.t().contiguous(), None, ()) for matrix in matrices]
    return ({"plain": plain} if precision == FLOAT32 else {}) | {
        "onednn": [Packed(reorder(matrix), None, ()) for matrix in matrices],
        "panels": [Panels.of(matrix, None, ()) for matrix in matrices],
    }


def step(products: Sequence[AnyProduct], x: torch.Tensor, out: torch.Tensor) -> float:
    """Seconds of a product by each matrix."""
    started = time.perf_counter()
    for product in products:
        product.into(x, out)
    return time.perf_counter() - started


def measure(shape: tuple[int, int], precision: str, rounds: int) -> dict[int, dict[str, float]]:
    """Microseconds of a product, by kind, by tokens of a step."""
    made = kinds(shape, precision)
    table = {}
    for tokens in TOKENS:
        x, out = torch.randn(tokens, shape[1]), torch.empty(tokens, shape[0])
        taken: dict[str, list[float]] = {name: [] for name in made}
        for _ in range(rounds):  # a busy machine slows all
            for name, products in made.items():
                step(products[:1], x, out)
                taken[name].append(MICRO * step(products, x, out) / len(products))
        table[tokens] = {name: round(statistics.median(t), 1) for name, t in taken.items()}
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=[FLOAT32, BFLOAT16], default=FLOAT32)
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    set_crew(asked.threads)
    told = {}
    names = " / ".join(kinds((16, 16), asked.precision))
    print(f"microseconds with {asked.threads} threads, {names}, by tokens")
    print(f"{'matrix':>12}", *(f"{tokens:>16}" for tokens in TOKENS))
    for shape in (*SMALL, *LARGE):
        name = "x".join(map(str, shape))
        table = told[name] = measure(shape, asked.precision, asked.rounds)
        cells = ("/".join(f"{t:.0f}" for t in row.values()) for row in table.values())
        print(f"{name:>12}", *(f"{cell:>16}" for cell in cells), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
