"""The objective of translation: -log p of the target's next token, given source and beginning."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from components.padding import padded
from components.training import machine
from components.training.batches import Batches
from components.training.small import Small

if TYPE_CHECKING:
    from components.models.seq2seq import Seq2Seq
    from components.models.transformer import Transformer

# batches are padded to a multiple of so many tokens: few shapes, or the heap would get holes of
# as many sizes as there are batches, and grow
LENGTHS = 4


@dataclass(frozen=True)
class Pair:
    """Tokens. source: with its end. target: with an end before it and one behind it."""

    source: list[int]
    target: list[int]


class Loss(torch.nn.Module):
    """Pairs to the sum of their tokens' losses, over `whole`; smoothed while it trains.

    smoothing: Szegedy et al. 2016, section 7; Vaswani et al. 2017, section 5.4.
    """

    def __init__(self, model: "Seq2Seq | Transformer", smoothing: float) -> None:
        super().__init__()
        self.model, self.smoothing = model, smoothing

    def forward(self, source: Tensor, target: Tensor, whole: int) -> Tensor:
        """source: (pairs, tokens). target: (pairs, tokens + 1). whole: tokens of the step."""
        made = self.model(source, target[:, :-1])  # (pairs, tokens, width)
        logits = self.model.logits(made.flatten(0, 1)).float()  # (pairs x tokens, vocabulary)
        smoothing = self.smoothing if self.training else 0.0
        loss = functional.cross_entropy(
            logits,
            target[:, 1:].flatten(),
            ignore_index=self.model.pad,
            reduction="sum",
            label_smoothing=smoothing,
        )
        return loss / whole


class Translation(Small):
    """Batches of pairs of about one length, and the loss on held-out ones.

    See `loop.Objective`.
    """

    def __init__(
        self,
        model: "Seq2Seq | Transformer",
        pairs: Sequence[Pair],
        held_out: Sequence[Pair],
        rows: int,
        smoothing: float,
        seed: int,
    ) -> None:
        self.pairs, self.held_out = pairs, held_out
        self.batches = Batches([len(p.source) + len(p.target) for p in pairs], rows, seed)
        self.pad = model.pad
        self.module = Loss(model, smoothing).to(machine.device())

    def batch(self, step: int, rows: range) -> tuple[Tensor, Tensor, int]:
        chosen = [self.pairs[number] for number in self.batches(step)]
        whole = sum(len(pair.target) - 1 for pair in chosen)
        return self._batch([chosen[place] for place in rows], whole)

    def _batch(self, pairs: Sequence[Pair], whole: int) -> tuple[Tensor, Tensor, int]:
        device = machine.device()
        source, _ = padded([pair.source for pair in pairs], self.pad, LENGTHS)
        # one more: the first token is not predicted, and the last one predicts none
        target, _ = padded([pair.target for pair in pairs], self.pad, LENGTHS, more=1)
        return source.to(device), target.to(device), whole

    def validate(self) -> float:
        """The mean loss over the held-out pairs, nats per target token, without smoothing."""
        total, size = 0.0, self.batches.size
        with torch.no_grad():
            for first in range(0, len(self.held_out), size):
                total += float(self.module(*self._batch(self.held_out[first : first + size], 1)))
        return total / sum(len(pair.target) - 1 for pair in self.held_out)

    def describe(self, step: int) -> str:
        return f"pairs {', '.join(map(str, self.batches(step)))} of the training split"
