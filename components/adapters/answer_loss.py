"""The objective of adapters that answer in words: -log p of the answers' tokens, in nats."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from components.adapters.encoding import Batch, answer_losses, as_answer, encode, pairs_of

if TYPE_CHECKING:
    from components.adapters.task_data import TaskData


class AnswerLoss(torch.nn.Module):
    """See `method.Objective`; a row weighs as many as its answer has tokens."""

    def __init__(self, model: torch.nn.Module, data: "TaskData") -> None:
        super().__init__()
        self.model, self.data = model, data

    def weight(self, row: Mapping[str, str]) -> int:
        tokenizer = self.data.tokenizer
        asked, answer = self.data.prompt(row), row["answer"]
        if not self.data.free_text:
            return len(as_answer(tokenizer, asked, answer))
        return len(pairs_of(self.model, tokenizer, [asked], [answer], free_text=True)[0].target)

    def answers(self, row: Mapping[str, str]) -> list[str]:
        return [row["answer"]]

    def encode(self, rows: Sequence[Mapping[str, str]]) -> Batch:
        prompts = [self.data.prompt(row) for row in rows]
        answers = [row["answer"] for row in rows]
        return encode(self.model, self.data.tokenizer, prompts, answers, self.data.free_text)

    def forward(self, batch: Batch, whole: int) -> torch.Tensor:
        return answer_losses(self.model, batch).sum() / whole
