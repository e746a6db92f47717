"""Trainings killed with SIGKILL at random moments, then begun again: `python bench/chaos.py`.

Each kind of training runs once undisturbed. Then it is begun, killed, begun again, as often as
`--kills` says, and at last left alone. `bit_equal` says whether all files that both made are equal.
`--json FILE` writes the table.
"""

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from pathlib import Path

from _world import PATH, prepare

from components.lineage import folder_hash, read_json

CHECKPOINT_MINUTES = 0.002
PRELOADED = ["torch", "transformers", "peft", "components.adapters", "components.training.pretrain"]
KINDS = ("pretraining", "full", "lora", "prompt_tuning")
forks = multiprocessing.get_context("forkserver")


class Noting:
    """A reporter that leaves a file where a run was resumed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def params(self, values) -> None:
        pass

    def metrics(self, values, step: int = 0) -> None:
        pass

    def text(self, name: str, text: str) -> None:
        pass

    def progress(self, done: float, total: float, note: str = "") -> None:
        if note.startswith("resumed"):
            (self.folder / f"resumed-{time.monotonic_ns()}").touch()


def make_inputs(folder: Path) -> None:
    """A tiny world, its tokenizer and tokens, and a task, below `folder`."""
    from components.dataset import Dataset
    from components.ingest import ingest
    from components.lineage import LINEAGE, write_json
    from components.prompts import Prompt
    from components.reporter import Silent
    from components.tasks import Task, build_task

    prepare(folder, 1500, 512)
    labelled = Dataset(
        path="components/world.py",
        format="world",
        kinds=["review"],
        size=1500,
        text="review",
        label="label",
        labels={"positive": "positive", "negative": "negative"},
    )
    reviews, made = folder / "reviews", folder / "task"
    reviews.mkdir()
    made.mkdir()
    ingest(labelled, PATH, reviews, Silent())
    write_json(reviews / LINEAGE, {"content": folder_hash(reviews)})
    task = Task(dataset="reviews", kind="classification", prompt="p", metric="accuracy")
    prompt = Prompt(template="{{text}} It is", answer={"positive": " good", "negative": " bad"})
    build_task(task, "task", prompt, "p", reviews, made, Silent())


def train(kind: str, inputs: Path, place: Path) -> None:
    """One training, from the newest checkpoint of `place` if there is one. Its own process."""
    import torch

    from components.adapters.full import Full
    from components.adapters.lora import Lora
    from components.adapters.prompt_tuning import PromptTuning
    from components.adapters.training import train_adapter
    from components.lineage import LINEAGE, write_json
    from components.models.llama import Model
    from components.training.pretrain import Pretrain, pretrain

    torch.set_num_threads(1)
    out = place / f"out-{time.monotonic_ns()}"
    out.mkdir()
    often = {"checkpoint_minutes": CHECKPOINT_MINUTES, "seed": 1}
    settings = {"checkpoints": place / "checkpoints", "identity": kind, "report": Noting(place)}
    if kind == "pretraining":
        model = Model(layers=2, width=64, heads=2, context=64)
        block = Pretrain(tokens=200_000, batch_tokens=512, learning_rate=0.01, **often)
        pretrain(model, block, inputs / "tokens", inputs / "tokenizer", out, **settings)
        write_json(out / LINEAGE, {"content": folder_hash(out)})
    else:
        given = {"pipeline": "p", "task": "task", "steps": 150, "batch_size": 8, **often}
        methods = {
            "full": lambda: Full(method="full", **given),
            "lora": lambda: Lora(method="lora", rank=4, dropout=0.1, **given),
            "prompt_tuning": lambda: PromptTuning(method="prompt_tuning", **given),
        }
        base = read_json(inputs / "base.json")["folder"]
        train_adapter(methods[kind](), kind, inputs / "task", Path(base), out, **settings)
    write_json(place / "done.json", {"folder": str(out)})


def start(kind: str, inputs: Path, place: Path):
    process = forks.Process(target=train, args=(kind, inputs, place))
    process.start()
    return process


def undisturbed(kind: str, inputs: Path, place: Path) -> tuple[Path, float]:
    """The folder that a training makes when it is left alone, and its seconds."""
    place.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    process = start(kind, inputs, place)
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"{kind} ended with {process.exitcode}")
    return Path(read_json(place / "done.json")["folder"]), time.perf_counter() - started


def disturbed(
    kind: str, inputs: Path, place: Path, kills: int, seconds: float, draw: random.Random
) -> dict[str, int]:
    """Begin and kill; how often it was killed, and how often it went on from a checkpoint."""
    place.mkdir(parents=True)
    done = 0
    while done < kills:
        process = start(kind, inputs, place)
        process.join(draw.uniform(0.2, 1.0) * seconds * 0.5)
        if process.exitcode is None:
            process.kill()
            process.join()
            done += 1
        elif process.exitcode == 0:  # it came to its end first: once more from the start
            for path in (place / "checkpoints").glob("*"):
                path.unlink()
    return {"kills": done}


def measure(kills: int, seed: int) -> list[dict]:
    """One row for each kind of training."""
    forks.set_forkserver_preload(PRELOADED)
    draw = random.Random(seed)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary)
        inputs = top / "inputs"
        preparing = forks.Process(target=make_inputs, args=(inputs,))
        preparing.start()
        preparing.join()
        for number, kind in enumerate(KINDS):
            share = kills * (number + 1) // len(KINDS) - kills * number // len(KINDS)
            whole, seconds = undisturbed(kind, inputs, top / kind / "whole")
            if kind == "pretraining":
                (inputs / "base.json").write_text(json.dumps({"folder": str(whole)}))
            place = top / kind / "killed"
            told = disturbed(kind, inputs, place, share, seconds, draw)
            last, _ = undisturbed(kind, inputs, place)
            resumed = len(list(place.glob("resumed-*")))
            same = folder_hash(last) == folder_hash(whole)
            rows.append({"training": kind, **told, "resumed": resumed, "bit_equal": same})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    rows = measure(given.kills, given.seed)
    told = {
        "kills": sum(row["kills"] for row in rows),
        "resumed": sum(row["resumed"] for row in rows),
        "bit_equal": all(row["bit_equal"] for row in rows),
        "trainings": rows,
    }
    print(json.dumps(told, indent=1))
    if given.json:
        given.json.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
