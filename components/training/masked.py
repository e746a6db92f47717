"""The objective of BERT: -log p of tokens that are hidden (Devlin et al. 2019, section 3.1)."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from components.models.bert import mask_of
from components.training import machine
from components.training.small import Small
from components.training.windows import Windows, spaced

if TYPE_CHECKING:
    from transformers import BertForMaskedLM

CHOSEN = 0.15  # of the tokens are to be told
HIDDEN, REPLACED = 0.8, 0.1  # of those: behind the mask, and as another token; the rest stay
HELD_OUT = 4096  # hidden tokens that the loss curve is drawn from, and a rate chosen by


def chosen_of(context: int) -> int:
    """How many tokens of a sequence are to be told."""
    return max(1, round(CHOSEN * context))


def hide(
    ids: Tensor, mask: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose tokens and hide most of them.

    ids: (rows, context), without mask tokens; the first of each row opens it and is never chosen.
    mask: its number, one behind the last token that a replacement may be.

    Returns the rows with hidden tokens, and for the chosen ones, which are equally many in each
    row, their places in the flattened rows and what they are; shapes (rows, context), (chosen,),
    (chosen,).
    """
    rows, context = ids.shape
    order = torch.rand(rows, context - 1, generator=generator).argsort(1)
    columns = order[:, : chosen_of(context)] + 1
    places = (torch.arange(rows)[:, None] * context + columns).flatten()
    targets = ids.flatten()[places]
    fate = torch.rand(len(places), generator=generator)
    other = torch.randint(mask, (len(places),), generator=generator)
    shown = torch.where(fate < HIDDEN, mask, targets)
    shown = torch.where(fate >= 1 - REPLACED, other, shown)
    hidden = ids.clone().view(-1)
    hidden[places] = shown
    return hidden.view_as(ids), places, targets


class Loss(torch.nn.Module):
    """Sequences to the sum of the losses of their chosen tokens, over `scale`."""

    def __init__(self, model: "BertForMaskedLM", scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, ids: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        """ids: (rows, context). places, targets: (chosen,), see `hide`."""
        logits = chosen_logits(self.model, ids, places)
        return cross_entropy(logits.float(), targets, reduction="sum") / self.scale


def chosen_logits(model: "BertForMaskedLM", ids: Tensor, places: Tensor) -> Tensor:
    """The logits at `places` alone, (chosen, vocabulary): those of all tokens cost seven times."""
    states = model.bert(input_ids=ids).last_hidden_state  # (rows, context, width)
    return model.cls(states.flatten(0, 1)[places])


class Masked(Small):
    """Batches of `windows` with hidden tokens, and the loss on held-out ones.

    opening: the token before every sequence, whose state stands for the whole of it. What is hidden
    is drawn anew for each batch from the random state that the loop sets. See `loop.Objective`.
    """

    def __init__(
        self,
        model: "BertForMaskedLM",
        windows: Windows,
        held_out: np.ndarray,
        rows: int,
        opening: int,
    ) -> None:
        self.windows, self.rows, self.opening, self.mask = windows, rows, opening, mask_of(model)
        scale = rows * chosen_of(windows.context)
        self.module = Loss(model, scale).to(machine.device())
        self._held_out = self._hidden(held_out)

    def _hidden(self, held_out: np.ndarray) -> list[tuple[Tensor, ...]]:
        """The same tokens are hidden every time, so that losses compare."""
        context = self.windows.context
        cut = spaced(held_out, context, -(-HELD_OUT // chosen_of(context)))
        generator = torch.Generator().manual_seed(0)
        batches = [cut[first : first + self.rows] for first in range(0, len(cut), self.rows)]
        return [hide(self._opened(batch), self.mask, generator) for batch in batches]

    def _opened(self, rows: np.ndarray) -> Tensor:
        ids = torch.from_numpy(rows.copy())
        ids[:, 0] = self.opening
        return ids

    def batch(self, step: int, rows: range) -> tuple[Tensor, ...]:
        first = step * self.rows
        cut = self.windows.rows(range(first + rows.start, first + rows.stop))
        hidden = hide(self._opened(cut[:, :-1]), self.mask)
        return tuple(tensor.to(machine.device()) for tensor in hidden)

    def validate(self) -> float:
        """The mean loss over the held-out tokens, nats a token."""
        total = count = 0.0
        with torch.no_grad():
            for batch in self._held_out:
                moved = [tensor.to(machine.device()) for tensor in batch]
                total += float(self.module(*moved)) * self.module.scale
                count += len(batch[2])
        return total / count

    def describe(self, step: int) -> str:
        return self.windows.documents(range(step * self.rows, (step + 1) * self.rows))
