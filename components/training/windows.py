"""Sequences for a language model, cut from a flat token file."""

import numpy as np

NAMED = 8  # documents of a batch that an error names


class Windows:
    """Sequences in an order that depends on seed and position alone.

    tokens: shape (tokens,). offsets: where documents begin, shape (documents + 1,). Each epoch
    shifts the cuts and permutes the sequences anew. Nothing but the rows that are asked for is
    read, and 8 bytes a sequence are kept.

    Raises:
        ValueError: there are fewer tokens than two contexts.
    """

    def __init__(self, tokens: np.ndarray, offsets: np.ndarray, context: int, seed: int) -> None:
        self.tokens, self.offsets, self.context, self.seed = tokens, offsets, context, seed
        self.count = (len(tokens) - 1) // context - 1  # one less: room for the epoch's shift
        if self.count < 1:
            raise ValueError(
                f"the corpus has {len(tokens)} tokens, fewer than two contexts of {context}; "
                "give it more text or the model a smaller context"
            )
        self._epoch = -1

    def rows(self, numbers: range) -> np.ndarray:
        """Sequences of the run, counted from its start. Shape (sequences, context + 1)."""
        starts = [self._start(number) for number in numbers]
        cut = [self.tokens[start : start + self.context + 1] for start in starts]
        return np.stack(cut).astype(np.int64)

    def documents(self, numbers: range) -> str:
        """Which documents those sequences are cut from, in words."""
        starts = np.array([self._start(number) for number in numbers])
        first = np.searchsorted(self.offsets, starts, side="right") - 1
        last = np.searchsorted(self.offsets, starts + self.context, side="right") - 1
        named = [f"{a}-{b}" if a != b else str(a) for a, b in zip(first, last, strict=True)]
        more = f" and of {len(named) - NAMED} more sequences" if len(named) > NAMED else ""
        return f"documents {', '.join(named[:NAMED])}{more} of the training split"

    def _start(self, number: int) -> int:
        epoch, place = divmod(number, self.count)
        if epoch != self._epoch:
            random = np.random.default_rng([self.seed, epoch])
            self._shift = int(random.integers(self.context))
            self._order = random.permutation(self.count)
            self._epoch = epoch
        return self._shift + int(self._order[place]) * self.context


def spaced(tokens: np.ndarray, length: int, count: int) -> np.ndarray:
    """At most `count` evenly spaced windows of `tokens`, int64, shape (windows, length)."""
    length = min(length, len(tokens))
    starts = np.unique(np.linspace(0, len(tokens) - length, count).astype(int))
    return np.stack([tokens[start : start + length] for start in starts]).astype(np.int64)
