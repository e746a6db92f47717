"""The objective of `head`: -log p of the right label, in nats."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.functional import cross_entropy

from components.adapters.encoding import encode_prompts

if TYPE_CHECKING:
    from components.adapters.task_data import TaskData


class Labelled(NamedTuple):
    """Right-padded prompts, and the class of each."""

    input_ids: torch.Tensor  # (rows, longest)
    attention_mask: torch.Tensor  # (rows, longest)
    classes: torch.Tensor  # (rows,)


class LabelLoss(torch.nn.Module):
    """See `method.Objective`; every row weighs the same."""

    def __init__(self, model: torch.nn.Module, data: "TaskData") -> None:
        super().__init__()
        self.model, self.data = model, data

    def weight(self, row: Mapping[str, str]) -> int:
        return 1

    def answers(self, row: Mapping[str, str]) -> list[str]:
        return [""]  # none is read

    def encode(self, rows: Sequence[Mapping[str, str]]) -> Labelled:
        prompts = [self.data.prompt(row) for row in rows]
        ids, mask = encode_prompts(self.model, self.data.tokenizer, prompts)
        classes = [self.model.config.label2id[row["label"]] for row in rows]
        return Labelled(ids, mask, torch.tensor(classes, device=ids.device))

    def forward(self, batch: Labelled, whole: int) -> torch.Tensor:
        ids, mask, classes = batch
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return cross_entropy(logits.float(), classes, reduction="sum") / whole
