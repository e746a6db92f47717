"""What a method may know of its task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from components.lineage import read_jsonl
from components.prompts import with_shots

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TaskData:
    """labels: each label's answer; none where answers are free text. rows: the training rows.
    shot_texts: worked examples before every prompt.
    """

    tokenizer: "PreTrainedTokenizerBase"
    labels: Mapping[str, str]
    rows: Sequence[Mapping[str, str]]
    shot_texts: Sequence[str] = ()

    @property
    def free_text(self) -> bool:
        """Whether an answer is no label's, so that it ends where its document does."""
        return not self.labels

    def prompt(self, row: Mapping[str, str]) -> str:
        """What the model reads before `row`'s answer."""
        return with_shots(self.shot_texts, row["prompt"])


def training_rows(task: Path, examples: int | None, seed: int) -> list[dict[str, str]]:
    """The training rows of the folder `task`: all of them, or `examples`, drawn by `seed`.

    What a few rows teach depends on which they are, so each seed has its own. Of one seed, those of
    a smaller number are among those of a larger one.

    Raises:
        ValueError: there are not so many.
    """
    rows = list(read_jsonl(task / "train.jsonl"))
    if examples is None:
        return rows
    if examples > len(rows):
        raise ValueError(f"examples {examples}: {task.name} has only {len(rows)} training rows")
    Random(seed).shuffle(rows)
    return rows[:examples]
