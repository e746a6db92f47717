"""What a method may know of its task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
