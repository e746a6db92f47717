"""Keys and values on a device, and which blocks hold those of a row."""

import numpy as np
import torch

from components.inference.attention_kernel import BLOCK
from components.inference.checkpoint import Shape
from components.inference.weights import Weights


class DeviceStore:
    """So many blocks, and a spare one that takes what rows without a request write."""

    def __init__(self, weights: Weights, blocks: int) -> None:
        shape = weights.shape
        self.blocks = self.spare = blocks
        # a position's keys lie beside its values: both are written, and gathered, at once
        numbers = (shape.layers, blocks + 1, BLOCK, 2 * shape.key_heads, shape.size)
        dtype = weights.embeddings.dtype
        self._held = torch.zeros(numbers, dtype=dtype, device=weights.device)

    @staticmethod
    def bytes_of_block(shape: Shape, dtype: torch.dtype) -> int:
        return shape.layers * 2 * shape.key_heads * BLOCK * shape.size * dtype.itemsize

    def layer(self, number: int) -> torch.Tensor:
        """(blocks and the spare one, BLOCK, keys' heads and values' heads, size)."""
        return self._held[number]

    def copy(self, source: int, target: int) -> None:
        """See `Holds.copy`."""
        self._held[:, target] = self._held[:, source]

    def write(self, block: int, past: np.ndarray) -> None:
        """See `Holds.write`."""
        layers, _, _, count, size = past.shape
        by_position = past.transpose(0, 3, 1, 2, 4).reshape(layers, count, -1, size)
        self._held[:, block, :count] = torch.from_numpy(by_position).to(self._held)


class DeviceTables:
    """`Pool.tables` on the device, and a line for the spare row, with which steps are filled up.

    A line changes when another request takes the row, not in every step. held: (rows and the spare
    one, blocks of a row), int32, where a graph reads it.
    """

    def __init__(self, host: np.ndarray, spare: int, device: torch.device) -> None:
        """host: (rows, blocks of a row), which others change; spare: block."""
        self.host, self.spare, self.spare_row = host, spare, len(host)
        self._known = np.full_like(host, spare)
        lines = (len(host) + 1, host.shape[1])
        self.held = torch.full(lines, spare, dtype=torch.int32, device=device)

    def bring(self, rows: np.ndarray) -> None:
        """Make the lines of those rows the host's."""
        changed = rows[(self.host[rows] != self._known[rows]).any(1)]
        for row in set(changed.tolist()):
            self._known[row] = self.host[row]
            self.held[row] = torch.from_numpy(self._known[row]).to(self.held.device)
