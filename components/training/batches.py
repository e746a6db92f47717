"""Batches of rows of about one length: little padding, and no state to lose."""

from functools import lru_cache

import numpy as np

WINDOW = 16  # batches whose rows are sorted by length together


class Batches:
    """Which rows a step trains on: a function of seed and step alone, so that nothing is resumed.

    Each epoch permutes the rows anew, and sorts every `WINDOW` batches' worth of them by length:
    neighbours of one length need little padding. The order of batches stays random.
    """

    def __init__(self, lengths: list[int], size: int, seed: int) -> None:
        self.lengths, self.seed = np.array(lengths), seed
        self.size = min(size, len(lengths))
        self.of_epoch = lru_cache(maxsize=1)(self._of_epoch)

    def _of_epoch(self, epoch: int) -> np.ndarray:
        """The whole batches of an epoch, (batches, size); a last part of one is left out."""
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(self.lengths))
        order = order[: len(order) // self.size * self.size]
        window = WINDOW * self.size
        for start in range(0, len(order), window):
            part = order[start : start + window]
            order[start : start + window] = part[np.argsort(self.lengths[part], kind="stable")]
        return random.permutation(order.reshape(-1, self.size))

    def __call__(self, step: int) -> list[int]:
        epoch, number = divmod(step, len(self.lengths) // self.size)
        return self.of_epoch(epoch)[number].tolist()
