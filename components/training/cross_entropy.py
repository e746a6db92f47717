"""The loss over a vocabulary, in chunks: its logits never stand in memory at once.

Forward and backward are one pass: while a chunk's logits are in the cache they become their own
gradient, which goes into those of hidden states and output matrix right away.
"""

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    from collections.abc import Callable

# logits of a chunk. A processor's: 8 MB of float32, the second-level caches of a few cores. An
# accelerator's: 1 GB, as its products want thousands of rows, and each chunk a dozen launches
CHUNK_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 28}


def summed_loss(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, *, fused: bool = False
) -> torch.Tensor:
    """The sum of -log p of `targets`, in nats, where logits are `hidden @ weight.T`.

    hidden: (tokens, width). weight: (vocabulary, width). targets: (tokens,). fused: the softmax
    goes over a chunk in compiled passes. Products run in autocast's precision where it is on, the
    softmax in float32. Equals `cross_entropy` of whole logits to rounding.
    """
    if torch.is_grad_enabled():
        return _SummedLoss.apply(hidden, weight, targets, fused)
    total = hidden.new_zeros((), dtype=torch.float32)
    for rows in _chunks(hidden, weight):
        logits = hidden[rows] @ weight.T
        total += cross_entropy(logits.float(), targets[rows], reduction="sum")
    return total


def _chunks(hidden: torch.Tensor, weight: torch.Tensor) -> list[slice]:
    """Of equal size but for the last: each size is compiled once."""
    most = max(1, CHUNK_ELEMENTS[hidden.device.type] // len(weight))
    size = -(-len(hidden) // -(-len(hidden) // most))
    return [slice(start, start + size) for start in range(0, len(hidden), size)]


class _SummedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, fused):
        kind = hidden.device.type
        exact = not torch.is_autocast_enabled(kind)
        precision = hidden.dtype if exact else torch.get_autocast_dtype(kind)
        states, matrix = hidden.to(precision), weight.to(precision)
        of_hidden = torch.empty_like(states)
        of_weight = torch.zeros_like(weight, dtype=torch.float32)
        total = hidden.new_zeros((), dtype=torch.float32)
        of_logits = _compiled() if fused else _of_logits
        for rows in _chunks(hidden, weight):
            loss, gradient = of_logits(states[rows] @ matrix.T, targets[rows, None])
            total += loss
            torch.mm(gradient, matrix, out=of_hidden[rows])
            of_weight += gradient.T @ states[rows]
        ctx.save_for_backward(of_hidden.to(hidden.dtype), of_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx, upstream):
        of_hidden, of_weight = ctx.saved_tensors
        return of_hidden * upstream, of_weight * upstream, None, None


# Two forms of one gradient, as neither is fast in both uses. Two threads of an AMD EPYC, 512 rows
# of 4,096 logits: uncompiled the second takes 2.7 times the first's time (3.0 in bfloat16), and
# compiled the first takes 1.5 times the second's (1.3 in bfloat16; on one thread they are equal)


def _of_logits(said: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of logits, and its gradient by them in their own precision.

    said: (tokens, vocabulary), overwritten where it is float32. chosen: (tokens, 1).
    """
    logits = said.float()
    top = logits.amax(1, keepdim=True)
    picked = logits.gather(1, chosen)
    norm = logits.sub_(top).exp_().sum(1, keepdim=True)
    logits.div_(norm).scatter_add_(1, chosen, logits.new_full((len(logits), 1), -1.0))
    return (norm.log() + top - picked).sum(), logits.to(said.dtype)


def _of_logits_in_passes(
    said: torch.Tensor, chosen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `_of_logits`, written so that a compiler makes two passes over the logits of it."""
    logits = said.float()
    picked = logits.gather(1, chosen)
    normaliser = logits.logsumexp(1, keepdim=True)
    places = torch.arange(said.shape[1], device=said.device)
    gradient = (logits - normaliser).exp() - (places == chosen).float()
    return (normaliser - picked).sum(), gradient.to(said.dtype)


@cache
def _compiled() -> "Callable[..., tuple[torch.Tensor, torch.Tensor]]":
    return torch.compile(_of_logits_in_passes, dynamic=False)
