"""word2vec: vectors that foretell the words around a word (Mikolov et al. 2013a, b), by gensim."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from components.models.embedding import Word2Vec

if TYPE_CHECKING:
    from components.word_text import Text

LOWEST_RATE = 1e-4  # of the starting rate: where the linear decay ends, as in the authors' code
LONGEST = 10_000  # words of a sentence that gensim reads; the rest would be lost


class Word2VecLearner:
    """gensim's model of `text`. See `epochs.Learner`.

    One thread, and random numbers that are those of the epoch: equal runs give equal vectors.
    """

    def __init__(self, block: Word2Vec, text: "Text", seed: int) -> None:
        from gensim.models import Word2Vec as Model

        self.block, self.text, self.seed = block, text, seed
        self.model = Model(
            vector_size=block.dimensions,
            window=block.window,
            sg=int(block.architecture == "skip_gram"),
            negative=block.negative,
            sample=block.sample,
            alpha=block.learning_rate,
            min_alpha=block.learning_rate * LOWEST_RATE,
            min_count=1,  # rare words are left out of the text already
            workers=1,
            seed=seed,
        )
        counts = dict(zip(text.words, map(int, text.counts), strict=True))
        self.model.build_vocab_from_freq(counts, corpus_count=len(text.offsets) - 1)

    def epoch(self, number: int) -> dict[str, float]:
        """Go through the text while the learning rate falls by the epoch's part of its way."""
        numbers = np.random.SeedSequence((self.seed, number)).generate_state(1)
        self.model.random = np.random.RandomState(numbers[0])
        sentences = list(self._sentences())
        self.model.train(
            sentences,
            total_examples=len(sentences),
            epochs=1,
            start_alpha=self._rate(number),
            end_alpha=self._rate(number + 1),
        )
        return {"learning_rate": self._rate(number + 1)}

    def _rate(self, number: int) -> float:
        way = number / self.block.epochs
        return self.block.learning_rate * (1 - way * (1 - LOWEST_RATE))

    def _sentences(self) -> Iterator[list[str]]:
        names = np.array(self.text.words, dtype=object)
        for rows in self.text.documents():
            for begin in range(0, len(rows), LONGEST):
                yield names[rows[begin : begin + LONGEST]].tolist()

    def state(self) -> dict[str, np.ndarray]:
        """The vectors of words and of contexts, both [words, dimensions]."""
        return {"vectors": self.model.wv.vectors, "contexts": self.model.syn1neg}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.model.wv.vectors[:] = state["vectors"]
        self.model.syn1neg[:] = state["contexts"]

    def vectors(self) -> np.ndarray:
        """The vectors in the order of the text's words, float32, [words, dimensions]."""
        order = [self.model.wv.key_to_index[word] for word in self.text.words]
        return np.ascontiguousarray(self.model.wv.vectors[order])
