"""One-hot vectors: each word a dimension of its own."""

from typing import Literal

from components.block import Block


class OneHot(Block):
    """Nothing is chosen: the vocabulary says it all."""

    family: Literal["one_hot"]
