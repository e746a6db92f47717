"""Two processes on two cores against one on one core: `python bench/scaling.py`.

The same pretraining with the same global batch, in turns: one process with one thread, one with
two, and two processes of one thread each by `ddp` and by `fsdp`. `--json FILE` writes the table.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from _world import prepare

from components.models.llama import Model
from components.reporter import Silent
from components.training import launch
from components.training.group import Group
from components.training.pretrain import Pretrain

MODEL = Model(layers=6, width=256, heads=8, context=256)
CONTESTANTS = {"1 x 1": Group(1, 1), "1 x 2": Group(1, 2)}
CONTESTANTS |= {"2 x 1 ddp": Group(2, 2, "ddp"), "2 x 1 fsdp": Group(2, 2, "fsdp")}


class Speeds(Silent):
    """Keeps tokens a second, as the run tells them."""

    def __init__(self) -> None:
        self.told: list[float] = []

    def metrics(self, values, step: int = 0) -> None:
        if "tokens_per_second" in values:
            self.told.append(values["tokens_per_second"])


def speed(name: str, folder: Path, steps: int) -> float:
    """The median tokens a second of one run, its first third left out."""
    block = Pretrain(
        tokens=steps * 4096,
        batch_tokens=4096,
        learning_rate=0.002,
        checkpoint_minutes=60,
        compile="never",
        seed=1,
    )
    with tempfile.TemporaryDirectory() as place:
        out, checkpoints = Path(place, "out"), Path(place, "checkpoints")
        out.mkdir()
        job = {
            "model": MODEL.model_dump(mode="json"),
            "pretrain": block.model_dump(mode="json"),
            "tokens": str(folder / "tokens"),
            "tokenizer": str(folder / "tokenizer"),
            "out": str(out),
            "checkpoints": str(checkpoints),
            "identity": "bench",
            "price": None,
        }
        speeds = Speeds()
        launch.run(job, CONTESTANTS[name], speeds)
    return statistics.median(speeds.told[len(speeds.told) // 3 :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    told: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), 20_000, 4096)
        for _ in range(given.rounds):
            for name in CONTESTANTS:
                told[name].append(speed(name, Path(folder), given.steps))
    medians = {name: round(statistics.median(values)) for name, values in told.items()}
    one = medians["1 x 1"]
    ratios = {f"{name} over 1 x 1": round(value / one, 2) for name, value in medians.items()}
    table = {"tokens_per_s": medians, **ratios}
    print(json.dumps(table, indent=1))
    if given.json:
        given.json.write_text(json.dumps(table))


if __name__ == "__main__":
    main()
