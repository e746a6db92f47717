"""GloVe: vectors whose products tell how often words meet (Pennington et al. 2014, section 3)."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from components.models.embedding import LearnedEmbedding

if TYPE_CHECKING:
    from components.word_text import Text


class Glove(LearnedEmbedding):
    """AdaGrad on sum_ij f(X_ij) (w_i . c_j + b_i + d_j - log X_ij)^2, equation 8.

    maximum, exponent: f(x) = min(1, (x / maximum)^exponent), equation 9. A word's vector is w + c
    (section 4.2).
    """

    family: Literal["glove"]
    learning_rate: float = Field(default=0.05, gt=0)
    maximum: float = Field(default=10.0, gt=0)
    exponent: float = Field(default=0.75, gt=0)


class GloveLearner:
    """The vectors of `text`'s words, learned from their co-occurrences. See `epochs.Learner`."""

    def __init__(self, block: Glove, text: "Text", seed: int) -> None:
        from components.models.cooccurrence import count_pairs

        self.block, self.seed, words = block, seed, len(text.words)
        found = count_pairs(text.rows, text.offsets, words, block.window)
        self.columns, self.values = found.columns, found.values  # [entries]
        self.rows = np.repeat(np.arange(words, dtype=np.int32), np.diff(found.starts))
        random = np.random.default_rng(seed)
        # w and its bias in the last place, then c and its own; small and around 0, as in the
        # authors' code
        shape = (2, words, block.dimensions + 1)
        self.weights = ((random.random(shape, np.float32) - 0.5) / block.dimensions).astype("f4")
        self.squares = np.ones(shape, np.float32)  # AdaGrad's sums; from 1 as in the authors' code

    def epoch(self, number: int) -> dict[str, float]:
        """Visit each entry of X that is not zero once, in an order of the epoch's own."""
        from components.models.glove_kernel import descend

        order = np.random.default_rng((self.seed, number)).permutation(
            np.arange(len(self.values), dtype=np.int32 if len(self.values) < 2**31 else np.int64)
        )
        loss = descend(
            *(self.rows, self.columns, self.values, order),
            *(self.weights, self.squares),
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
