"""The door through which adapters are trained: a block, a base and a task become a folder."""

from itertools import islice
from pathlib import Path

from components.adapters import METHODS
from components.adapters.fitting import Fitting
from components.adapters.settings import Adapter, Trained
from components.adapters.task_data import TaskData, training_rows
from components.lineage import content_of, read_json, read_jsonl, write_json
from components.models import llama
from components.prompts import choose_shots, worked
from components.reporter import Reporter
from components.training.checkpoint import Checkpoints
from components.training.finder import Found

VALIDATION_ROWS = 256  # for the loss curve; scores come from the evaluation stage


def train_adapter(
    block: Adapter,
    name: str,
    task: Path,
    base: Path,
    out: Path,
    *,
    checkpoints: Path,
    identity: str,
    report: Reporter,
    random_base: bool = False,
) -> dict[str, float]:
    """Fit the base of folder `base` to the task of folder `task`, into `out`.

    random_base: adapt a randomly initialised model of the base's form instead, a control.

    Raises:
        ValueError: the task has too few rows or lacks what the method needs, or the training
            diverged.
    """
    description = read_json(task / "task.json")
    _, shot_texts = rows_and_shots(block, task)
    figures: dict[str, float] = {"trainable_parameters": 0.0}
    if isinstance(block, Trained):
        fitting = fitting_of(block, task, base, random_base)
        figures = fitting.train(Checkpoints(checkpoints, identity), report, out)
    settings = block.model_dump(mode="json")
    write_json(
        out / "adapter.json",
        {
            "name": name,
            "method": block.method,
            "task": description["name"],
            "base": content_of(base),
            "random_base": block.seed if random_base else None,
            "prompt": description["prompt"] | {"shots": len(shot_texts), "shot_texts": shot_texts},
            "labels": description["labels"],
            "trainable_parameters": int(figures["trainable_parameters"]),
            "truncated": int(figures.get("truncated", 0)),
            "settings": settings,
        },
    )
    return figures


def learning_rate_of(block: Trained, task: Path, base: Path) -> Found:
    """About which learning rate suits `block` on the base and task of these folders.

    Raises:
        ValueError: the task has too few rows or lacks what the method needs.
    """
    return fitting_of(block, task, base).find_rate()


def fitting_of(block: Trained, task: Path, base: Path, random_base: bool = False) -> Fitting:
    """What trains `block` on the task and base of these folders.

    It trains on the rows that are no worked examples: a prompt behind its own answer is copied.

    Raises:
        ValueError: the task has too few rows or lacks what the method needs.
    """
    from transformers import AutoTokenizer

    held_out = list(islice(read_jsonl(task / "validation.jsonl"), VALIDATION_ROWS))
    model = llama.randomised(base, block.seed) if random_base else llama.load(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows, shot_texts = rows_and_shots(block, task)
    left = [row for row in rows if worked(row) not in shot_texts]
    if not left:
        raise ValueError(
            f"{len(shot_texts)} worked examples before every prompt take all {len(rows)} training "
            f"rows of {task.name}, and none is left to train on; lower the prompt's shots or give "
            "more rows"
        )
    data = TaskData(tokenizer, read_json(task / "task.json")["labels"], left, shot_texts)
    return Fitting(METHODS[block.method], block, model, data, held_out)


def rows_and_shots(block: Adapter, task: Path) -> tuple[list[dict[str, str]], list[str]]:
    """The training rows, and the worked examples of them that stand before every prompt."""
    rows = training_rows(task, block.examples, block.seed)
    shots = getattr(block, "shots", None)
    if shots is None:
        shots = read_json(task / "task.json")["prompt"]["shots"]
    return rows, choose_shots(rows, shots, block.seed)
