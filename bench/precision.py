"""How fast this processor multiplies in each precision: `python bench/precision.py`.

float32 stands there twice where kindling does not take the library that PyTorch would take.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from components.training import machine

SIZE = 2048
ROUNDS = 7


def seconds(precision: torch.dtype) -> float:
    left, right = (torch.randn(SIZE, SIZE).to(precision) for _ in range(2))
    started = time.perf_counter()
    for _ in range(3):
        left @ right
    return (time.perf_counter() - started) / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    products, usual = torch.backends.mkldnn.matmul, torch.backends.mkldnn.matmul.fp32_precision
    machine.settle_products()
    ours = products.fp32_precision
    kinds = {"float32": (torch.float32, ours), "bfloat16": (torch.bfloat16, ours)}
    if ours != usual:
        kinds["float32_pytorch"] = (torch.float32, usual)
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS + 1):  # the first warms up; they alternate: a busy machine slows all
        for name, (kind, products.fp32_precision) in kinds.items():
            taken[name].append(seconds(kind))
    rates = {name: 2 * SIZE**3 / statistics.median(t[1:]) / 1e9 for name, t in taken.items()}
    told: dict[str, object] = {f"{name}_gflops": round(rate) for name, rate in rates.items()}
    able = torch.cpu.get_capabilities()
    told |= {
        "ratio": round(rates["bfloat16"] / rates["float32"], 2),
        "amx": bool(able.get("amx_bf16")),
        "processor": able.get("cpu_name"),
    }
    print(json.dumps(told))
    if given.json:
        given.json.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
