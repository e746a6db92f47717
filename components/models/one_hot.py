"""One-hot vectors: each word a dimension of its own."""

from typing import Literal

from components.models.embedding import Embedding


class OneHot(Embedding):
    """Nothing is learned: word n is 1 in place n and 0 elsewhere, and the vocabulary says it all."""

    family: Literal["one_hot"]
