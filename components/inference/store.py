"""Keys and values in memory, as the kernels of attention read them."""

import math

import numpy as np

from components.inference.attention_kernel import BLOCK, room
from components.inference.checkpoint import Shape
from components.inference.tiles import aligned


class Store:
    """So many blocks."""

    def __init__(self, shape: Shape, blocks: int) -> None:
        self.blocks = blocks
        numbers = (blocks, shape.layers, 2, shape.key_heads, BLOCK * room(shape.size))
        # a block lies in one piece, so that it touches few pages
        self._held = aligned(math.prod(numbers)).reshape(numbers)

    @staticmethod
    def bytes_of_block(shape: Shape) -> int:
        return shape.layers * 2 * shape.key_heads * BLOCK * room(shape.size) * 4

    def layer(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys (blocks, key heads, room, BLOCK) and values (blocks, key heads, BLOCK, room).

        room: a head's size, filled up. See `attention_kernel`.
        """
        keys, values = self._held[:, number, 0], self._held[:, number, 1]
        blocks, heads, _ = keys.shape
        return keys.reshape(blocks, heads, -1, BLOCK), values.reshape(blocks, heads, BLOCK, -1)

    def copy(self, source: int, target: int) -> None:
        """See `Holds.copy`."""
        self._held[target] = self._held[source]

    def write(self, block: int, past: np.ndarray) -> None:
        """See `Holds.write`."""
        count, size = past.shape[3:]
        for layer, (keys, values) in enumerate(past):
            all_keys, all_values = self.layer(layer)
            all_keys[block, :, :size, :count] = keys.transpose(0, 2, 1)
            all_values[block, :, :count, :size] = values
