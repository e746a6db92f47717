"""Rows of tokens, of one length each, as one tensor."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def padded(
    rows: Sequence[Sequence[int]], pad: int, multiple: int = 1, more: int = 0
) -> tuple["Tensor", "Tensor"]:
    """Token numbers, padded on the right, and 1 where a row has one; both (rows, tokens).

    tokens: those of the longest row, rounded up to `more` beyond a multiple.
    """
    import torch

    longest = max(map(len, rows))
    longest += -(longest - more) % multiple
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    return ids, mask
