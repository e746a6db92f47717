"""GloVe: vectors whose products tell how often words meet (Pennington et al. 2014, section 3)."""

from typing import TYPE_CHECKING

import numpy as np

from components.models.embedding import Glove

if TYPE_CHECKING:
    from components.word_text import Text

TILE = 512  # words of a tile's side: their vectors and AdaGrad's sums take 0.8 MB of 100 dimensions


class GloveLearner:
    """The vectors of `text`'s words, learned from their co-occurrences. See `epochs.Learner`."""

    def __init__(self, block: Glove, text: "Text", seed: int) -> None:
        from components.models.cooccurrence import count_pairs

        self.block, words = block, len(text.words)
        found = count_pairs(text.rows, text.offsets, words, block.window)
        random = np.random.default_rng(seed)
        rows = np.repeat(np.arange(words, dtype=np.int32), np.diff(found.starts))
        order = _tiled(rows, found.columns, words, random)
        # the entries of X, in the order in which they are visited; each [entries]
        self.rows, self.columns = rows[order], found.columns[order]
        self.values = found.values[order]
        # w and its bias in the last place, then c and its own; small and around 0, as in the
        # authors' code
        shape = (2, words, block.dimensions + 1)
        self.weights = ((random.random(shape, np.float32) - 0.5) / block.dimensions).astype("f4")
        self.squares = np.ones(shape, np.float32)  # AdaGrad's sums; from 1 as in the authors' code

    def epoch(self, number: int) -> dict[str, float]:
        """Visit each entry of X that is not zero once."""
        from components.models.glove_kernel import descend

        loss = descend(
            *(self.rows, self.columns, self.values, self.weights, self.squares),
            np.float32(self.block.learning_rate),
            np.float32(self.block.maximum),
            np.float32(self.block.exponent),
        )
        return {"loss": loss / max(len(self.values), 1)}

    def state(self) -> dict[str, np.ndarray]:
        """weights, squares: [2, words, dimensions + 1], of words and of contexts."""
        return {"weights": self.weights, "squares": self.squares}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.weights, self.squares = state["weights"], state["squares"]

    def vectors(self) -> np.ndarray:
        """w + c in the order of the text's words, float32, [words, dimensions]."""
        return np.ascontiguousarray(self.weights.sum(axis=0)[:, :-1])


def _tiled(
    rows: np.ndarray, columns: np.ndarray, words: int, random: np.random.Generator
) -> np.ndarray:
    """An order of the entries: tiles of X one after another, at random, and at random within each.

    The vectors of a tile stay in the processor's cache: a step is 3 times as fast as when all
    entries are visited at random (30,000 words of 100 dimensions; bench/glove.py).
    """
    order = random.permutation(np.arange(len(rows), dtype=np.min_scalar_type(len(rows))))
    across = words // TILE + 1
    place = random.permutation(across * across).astype(np.int32)
    tiles = place[rows[order] // TILE * across + columns[order] // TILE]
    return order[np.argsort(tiles, kind="stable")]
