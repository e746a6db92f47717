"""Muon against AdamW at equal tokens: `python bench/optimizers.py`.

Each optimiser's learning rate is chosen from the same number of candidates by the validation loss
of one seed; then each trains a small decoder on the embedded world with `--seeds` other seeds. The
interval is Student's, over the paired differences. `--json FILE` writes the table.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from _world import prepare
from scipy.stats import t

from components.models.llama import Model
from components.reporter import Silent
from components.training.pretrain import Pretrain, pretrain

MODEL = Model(layers=2, width=192, heads=6, context=128)
RATES = {"adamw": (0.002, 0.004, 0.008), "muon": (0.002, 0.004, 0.008)}
TUNING_SEED = 100


def loss(folder: Path, optimizer: str, rate: float, seed: int, tokens: int) -> tuple[float, float]:
    """The last validation loss, in nats a token, and the seconds it took."""
    block = Pretrain(
        tokens=tokens,
        batch_tokens=512,
        learning_rate=rate,
        optimizer=optimizer,
        documents="apart",
        checkpoint_minutes=60,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "out")
        out.mkdir()
        started = time.perf_counter()
        figures = pretrain(
            MODEL,
            block,
            folder / "tokens",
            folder / "tokenizer",
            out,
            checkpoints=Path(place, "checkpoints"),
            identity="bench",
            report=Silent(),
        )
    return figures["validation_loss"], time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    table: dict = {"tokens": given.tokens}
    losses: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder, 40_000, 2048)
        for name, rates in RATES.items():
            tried = {r: loss(folder, name, r, TUNING_SEED, given.tokens)[0] for r in rates}
            best = min(tried, key=tried.get)
            runs = [loss(folder, name, best, seed, given.tokens) for seed in range(given.seeds)]
            losses[name] = [value for value, _ in runs]
            seconds = statistics.median(taken for _, taken in runs)
            table[name] = {"tried": tried, "losses": losses[name], "seconds": round(seconds, 1)}
    apart = [m - a for m, a in zip(losses["muon"], losses["adamw"], strict=True)]
    spread = t.ppf(0.975, len(apart) - 1) * statistics.stdev(apart) / len(apart) ** 0.5
    mean = statistics.mean(apart)
    table["muon_minus_adamw"] = [round(v, 4) for v in (mean, mean - spread, mean + spread)]
    print(json.dumps(table, indent=1))
    if given.json:
        given.json.write_text(json.dumps(table))


if __name__ == "__main__":
    main()
