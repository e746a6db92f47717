"""The objective of `dpo`: -log of how likely the right answer is preferred, in nats."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import logsigmoid

from components.adapters.encoding import Batch, answer_losses, encode

if TYPE_CHECKING:
    from peft import PeftModel

    from components.adapters.task_data import TaskData


class PreferenceLoss(torch.nn.Module):
    """Rafailov et al. 2023, equation 7; every pair weighs the same. See `method.Objective`.

    The reference is the base, which the model becomes with its adapter off: it costs no memory.
    """

    def __init__(self, model: "PeftModel", data: "TaskData", beta: float, seed: int) -> None:
        super().__init__()
        self.model, self.data, self.beta, self.seed = model, data, beta, seed

    def train(self, mode: bool = True) -> "PreferenceLoss":
        """Only the deltas' own dropout begins: a base's would make another reference at each step,
        and preferences out of noise. trl turns it off too (`disable_dropout`).
        """
        from peft.tuners.tuners_utils import BaseTunerLayer

        super().train(False)
        for module in self.model.modules():
            if isinstance(module, BaseTunerLayer):
                module.train(mode)
        return self

    def weight(self, row: Mapping[str, str]) -> int:
        return 1

    def answers(self, row: Mapping[str, str]) -> list[str]:
        return [row["answer"], self.rejected(row)]

    def encode(self, rows: Sequence[Mapping[str, str]]) -> Batch:
        """All preferred answers, then all rejected ones, each behind its prompt."""
        prompts = [self.data.prompt(row) for row in rows]
        answers = [row["answer"] for row in rows] + [self.rejected(row) for row in rows]
        tokenizer, free_text = self.data.tokenizer, self.data.free_text
        return encode(self.model, tokenizer, prompts * 2, answers, free_text)

    def rejected(self, row: Mapping[str, str]) -> str:
        """The answer that `row` rejects; the same in every epoch.

        Raises:
            ValueError: the row has none, and its task no other label.
        """
        if "rejected" in row:
            return row["rejected"]
        others = [text for text in self.data.labels.values() if text != row["answer"]]
        if not others:
            raise ValueError(
                f"row {row['id']} has no 'rejected' answer, and its task no other label to take "
                "one from; dpo needs pairs: name their column in the data set's block, as in "
                "'rejected: COLUMN', or choose another method"
            )
        return Random(f"{self.seed}:{row['id']}").choice(others)

    def forward(self, batch: Batch, whole: int) -> torch.Tensor:
        with torch.no_grad(), self.model.disable_adapter():
            reference = self._margins(batch)
        gain = self._margins(batch) - reference
        return -logsigmoid(self.beta * gain).sum() / whole

    def _margins(self, batch: Batch) -> torch.Tensor:
        """log p of the preferred answer over that of the rejected one. Shape (pairs,)."""
        losses = answer_losses(self.model, batch).split(batch.lengths)
        preferred, rejected = -torch.stack([each.sum() for each in losses]).view(2, -1)
        return preferred - rejected
