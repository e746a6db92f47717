"""The objective of every adapter: -log p of the answers' tokens, in nats."""

import torch

from components.adapters.encoding import Batch, answer_losses


class AnswerLoss(torch.nn.Module):
    """A batch to the sum of its answer tokens' losses, over `whole`."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, whole: int) -> torch.Tensor:
        return answer_losses(self.model, batch).sum() / whole
