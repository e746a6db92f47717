"""The objective of a classifier on an encoder: -log p of the right label."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from components.padding import padded
from components.training import machine
from components.training.batches import Batches
from components.training.small import Small

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification


@dataclass(frozen=True)
class Labelled:
    """Tokens of a text, its opening included, and the number of its label."""

    ids: list[int]
    label: int


class Loss(torch.nn.Module):
    """Padded texts to the sum of their losses, over `whole`."""

    def __init__(self, model: "BertForSequenceClassification") -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor, labels: Tensor, whole: int) -> Tensor:
        """ids, mask: (rows, longest). labels: (rows,)."""
        logits = self.model(input_ids=ids, attention_mask=mask).logits
        return cross_entropy(logits.float(), labels, reduction="sum") / whole


class Classes(Small):
    """Batches of labelled texts of about one length. See `loop.Objective`."""

    def __init__(
        self,
        model: "BertForSequenceClassification",
        texts: Sequence[Labelled],
        held_out: Sequence[Labelled],
        rows: int,
        seed: int,
    ) -> None:
        self.texts, self.held_out = texts, held_out
        self.batches = Batches([len(text.ids) for text in texts], rows, seed)
        self.module = Loss(model).to(machine.device())
        self.pad = model.config.pad_token_id

    def batch(self, step: int, rows: range) -> tuple[Tensor, Tensor, Tensor, int]:
        chosen = self.batches(step)
        texts = [self.texts[chosen[place]] for place in rows]
        return *self._batch(texts), len(chosen)

    def _batch(self, texts: Sequence[Labelled]) -> tuple[Tensor, ...]:
        return tuple(tensor.to(machine.device()) for tensor in tensors(texts, self.pad))

    def validate(self) -> float:
        """The mean loss over the held-out texts, nats."""
        total, size = 0.0, self.batches.size
        with torch.no_grad():
            for first in range(0, len(self.held_out), size):
                batch = self._batch(self.held_out[first : first + size])
                total += float(self.module(*batch, 1))
        return total / len(self.held_out)

    def describe(self, step: int) -> str:
        return f"rows {', '.join(map(str, self.batches(step)))} of the labelled training split"


def tensors(texts: Sequence[Labelled], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Token numbers and what of them is text, (rows, longest), and the labels, (rows,)."""
    labels = torch.tensor([text.label for text in texts])
    return *padded([text.ids for text in texts], pad), labels
