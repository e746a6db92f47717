"""The objective of pretraining: -log p of the next token, in nats."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from components.models import llama
from components.training import attention, machine
from components.training.cross_entropy import summed_loss
from components.training.small import Small
from components.training.windows import Windows, spaced

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VALIDATION_WINDOWS = 64  # x context tokens: enough for a curve, cheap enough to draw it often


class Loss(torch.nn.Module):
    """Sequences to the sum of their losses, over `scale`. The model's logits are never whole."""

    def __init__(self, model: "PreTrainedModel", scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale
        self.states, self.fused = self._states, False

    def _states(self, ids: torch.Tensor, places: torch.Tensor | None) -> torch.Tensor:
        found = self.model.base_model(input_ids=ids, position_ids=places, use_cache=False)
        return found.last_hidden_state  # (sequences, context, width)

    def forward(self, rows: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
        """rows: (sequences, context + 1). places: of each token in its document, or None."""
        states = self.states if self.training else self._states
        hidden = states(rows[:, :-1], places)
        weight = self.model.get_output_embeddings().weight
        targets = rows[:, 1:].flatten()
        return summed_loss(hidden.flatten(0, 1), weight, targets, fused=self.fused) / self.scale


class StatesLoss(Loss):
    """That of a model that gives its states itself, as the ladder's do."""

    def _states(self, ids: torch.Tensor, places: torch.Tensor | None) -> torch.Tensor:
        return self.model.states(ids)


class Sequences(Small):
    """Batches of `windows` for the loss of a language model, and that on held-out tokens.

    loss: takes rows of tokens, (sequences, context + 1), and divides by its `scale`. See
    `loop.Objective`.
    """

    def __init__(self, loss: Loss, windows: Windows, held_out: np.ndarray, rows: int) -> None:
        self.windows, self.rows = windows, rows
        self.module = loss.to(machine.device())
        self._held_out = spaced(held_out, windows.context + 1, VALIDATION_WINDOWS)

    def batch(self, step: int, rows: range) -> tuple[torch.Tensor, ...]:
        first = step * self.rows
        return self._batch(self.windows.rows(range(first + rows.start, first + rows.stop)))

    def _batch(self, cut: np.ndarray) -> tuple[torch.Tensor, ...]:
        device = machine.device()
        tensors = [torch.from_numpy(array) for array in self._arrays(cut)]
        if device.type == "cuda":  # pinned memory is copied while the device works
            return tuple(t.pin_memory().to(device, non_blocking=True) for t in tensors)
        return tuple(tensors)

    def _arrays(self, cut: np.ndarray) -> list[np.ndarray]:
        """What the loss takes."""
        return [cut]

    def validate(self) -> float:
        """The mean loss over evenly spaced windows of the held-out tokens, nats per token."""
        total = 0.0
        with torch.no_grad():
            for first in range(0, len(self._held_out), self.rows):
                total += float(self.module(*self._batch(self._held_out[first : first + self.rows])))
        return total * self.module.scale / (self._held_out.shape[0] * self._held_out[0, 1:].size)

    def describe(self, step: int) -> str:
        return self.windows.documents(range(step * self.rows, (step + 1) * self.rows))


class NextToken(Sequences):
    """Those of a decoder. apart: a token sees none of the document before its own."""

    def __init__(
        self,
        model: "PreTrainedModel",
        windows: Windows,
        held_out: np.ndarray,
        rows: int,
        apart: bool,
    ) -> None:
        self.end, self.apart = model.config.eos_token_id, apart
        super().__init__(Loss(model, rows * windows.context), windows, held_out, rows)

    def _arrays(self, cut: np.ndarray) -> list[np.ndarray]:
        return [cut, places(cut[:, :-1], self.end)] if self.apart else [cut]

    def row_bytes(self, precision: machine.Precision) -> float:
        model = self.module.model
        again = model.is_activation_checkpointing
        scores = attention.score_bytes(model.config, precision)
        if again:
            scores /= model.config.num_hidden_layers
        return self.windows.context * (llama.activation_bytes(model.config, again) + scores)

    def step_bytes(self) -> float:
        """The gradient of the output matrix beside the one that is kept, twice: a chunk's is added
        to that of those before it, and that of all is scaled (`cross_entropy.py`).
        """
        return 8.0 * self.module.model.get_output_embeddings().weight.numel()

    def prepare(self, precision: machine.Precision, compiled: bool) -> None:
        attention.suit(self.module.model, precision)
        if compiled:
            self.module.states = torch.compile(self.module._states, dynamic=False)
            # on a processor chunks stay in its caches: passes cost little beside the products
            self.module.fused = machine.device().type == "cuda"


def places(ids: np.ndarray, end: int) -> np.ndarray:
    """The place of each token in its document, from 0. ids, and what is returned: (rows, tokens).

    `end` closes a document and opens the next one, as it does before every prompt.
    """
    steps = np.arange(ids.shape[1])
    begins = np.where(ids == end, steps, 0)
    return steps - np.maximum.accumulate(begins, axis=1)
