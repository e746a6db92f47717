"""Attention of a decoder over the states of an encoder: two ways to score, one way to read.

Shapes: batch, target and source are numbers of sentences and tokens; width is that of a state.
"""

import torch
from torch import Tensor, nn


class AdditiveAttention(nn.Module):
    """v · tanh(W query + U key): a small network (Bahdanau et al. 2015, appendix A.1.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)  # W
        self.key = nn.Linear(width, width, bias=False)  # U
        self.score = nn.Linear(width, 1, bias=False)  # v

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(batch, target, width), (batch, source, width) -> (batch, target, source)."""
        asked = self.query(queries).unsqueeze(2)  # (batch, target, 1, width)
        offered = self.key(keys).unsqueeze(1)  # (batch, 1, source, width)
        return self.score(torch.tanh(asked + offered)).squeeze(-1)


class MultiplicativeAttention(nn.Module):
    """query · W key: one product of matrices (Luong et al. 2015, section 3.1, "general")."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.key = nn.Linear(width, width, bias=False)  # W

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(batch, target, width), (batch, source, width) -> (batch, target, source)."""
        return queries @ self.key(keys).transpose(1, 2)


def read(scores: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The context of each query, a mean of `values` by weight, and the weights.

    scores: (..., target, source). values: (..., source, width). mask: what may be seen, True or
    False, broadcast to the scores. Returns (..., target, width) and (..., target, source).
    """
    weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return weights @ values, weights
