"""How fast this processor multiplies in each precision: `python bench/precision.py`."""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

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
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS + 1):  # the first warms up; they alternate: a busy machine slows both
        for name, kind in kinds.items():
            taken[name].append(seconds(kind))
    rates = {name: 2 * SIZE**3 / statistics.median(t[1:]) / 1e9 for name, t in taken.items()}
    told = {f"{name}_gflops": round(rate) for name, rate in rates.items()}
    amx = bool(torch.cpu.get_capabilities().get("amx_bf16"))
    told |= {"ratio": round(rates["bfloat16"] / rates["float32"], 2), "amx": amx}
    print(json.dumps(told))
    if given.json:
        given.json.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
