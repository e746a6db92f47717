"""The loss over a vocabulary, in chunks: its logits never stand in memory at once.

Forward and backward are one pass: while a chunk's logits are in the cache they become their own
gradient, which goes into those of hidden states and output matrix right away.
"""

import torch
from torch.nn.functional import cross_entropy

CHUNK_ELEMENTS = 1 << 21  # 8 MB of float32 logits: the second-level caches of a few cores


def summed_loss(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum of -log p of `targets`, in nats, where logits are `hidden @ weight.T`.

    hidden: (tokens, width). weight: (vocabulary, width). targets: (tokens,). Products run in
    autocast's precision where it is on, the softmax in float32. Equals `cross_entropy` of whole
    logits to rounding.
    """
    if torch.is_grad_enabled():
        return _SummedLoss.apply(hidden, weight, targets)
    total = hidden.new_zeros((), dtype=torch.float32)
    for rows in _chunks(hidden, weight):
        logits = hidden[rows] @ weight.T
        total += cross_entropy(logits.float(), targets[rows], reduction="sum")
    return total


def _chunks(hidden: torch.Tensor, weight: torch.Tensor) -> list[slice]:
    size = max(1, CHUNK_ELEMENTS // len(weight))
    return [slice(start, start + size) for start in range(0, len(hidden), size)]


class _SummedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets):
        kind = hidden.device.type
        exact = not torch.is_autocast_enabled(kind)
        precision = hidden.dtype if exact else torch.get_autocast_dtype(kind)
        states, matrix = hidden.to(precision), weight.to(precision)
        of_hidden = torch.empty_like(states)
        of_weight = torch.zeros_like(weight, dtype=torch.float32)
        total = hidden.new_zeros((), dtype=torch.float32)
        for rows in _chunks(hidden, weight):
            logits = (states[rows] @ matrix.T).float()
            chosen = targets[rows, None]
            total += _softmax_minus_one_hot(logits, chosen)
            gradient = logits.to(precision)
            torch.mm(gradient, matrix, out=of_hidden[rows])
            of_weight += gradient.T @ states[rows]
        ctx.save_for_backward(of_hidden.to(hidden.dtype), of_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx, upstream):
        of_hidden, of_weight = ctx.saved_tensors
        return of_hidden * upstream, of_weight * upstream, None


def _softmax_minus_one_hot(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Turn logits into the gradient of their loss, in place; return the loss."""
    top = logits.amax(1, keepdim=True)
    picked = logits.gather(1, chosen)
    norm = logits.sub_(top).exp_().sum(1, keepdim=True)
    logits.div_(norm).scatter_add_(1, chosen, logits.new_full((len(logits), 1), -1.0))
    return (norm.log() + top - picked).sum()
