"""What is chosen of embeddings: which words, and, where vectors are learned, how."""

from typing import Literal

from pydantic import Field

from components.block import Block


class Embedding(Block):
    """min_count: words of the vocabulary that occur less often in the text get no vector."""

    min_count: int = Field(default=5, ge=1)


class OneHot(Embedding):
    """Nothing is learned: word n is 1 in place n and 0 elsewhere."""

    family: Literal["one_hot"]


class LearnedEmbedding(Embedding):
    """dimensions: of a vector. window: words on each side that count as context. epochs: times that
    the text, or what was counted in it, is gone through.
    """

    dimensions: int = Field(default=100, ge=1)
    window: int = Field(default=5, ge=1)
    epochs: int = Field(default=5, ge=1)


class Word2Vec(LearnedEmbedding):
    """Negative sampling (Mikolov et al. 2013b, section 2.2) with one of two architectures.

    architecture: skip_gram foretells each word around from the word in the middle, cbow the middle
    from the mean of those around (2013a, figure 1). negative: random words that each pair is told
    apart from. sample: words more frequent than this share of the text are passed over at times
    (2013b, section 2.3); 0: never.
    """

    family: Literal["word2vec"]
    architecture: Literal["skip_gram", "cbow"]
    negative: int = Field(default=5, ge=1)
    sample: float = Field(default=1e-4, ge=0, lt=1)
    learning_rate: float = Field(default=0.025, gt=0)


class Glove(LearnedEmbedding):
    """AdaGrad on sum_ij f(X_ij) (w_i . c_j + b_i + d_j - log X_ij)^2, equation 8.

    maximum, exponent: f(x) = min(1, (x / maximum)^exponent), equation 9. A word's vector is w + c
    (section 4.2).
    """

    family: Literal["glove"]
    learning_rate: float = Field(default=0.05, gt=0)
    maximum: float = Field(default=10.0, gt=0)
    exponent: float = Field(default=0.75, gt=0)
