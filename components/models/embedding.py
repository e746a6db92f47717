"""What all embeddings choose: which words, and, where vectors are learned, from how much around."""

from pydantic import Field

from components.block import Block


class Embedding(Block):
    """min_count: words of the vocabulary that occur less often in the text get no vector."""

    min_count: int = Field(default=5, ge=1)


class LearnedEmbedding(Embedding):
    """dimensions: of a vector. window: words on each side that count as context. epochs: times that
    the text, or what was counted in it, is gone through.
    """

    dimensions: int = Field(default=100, ge=1)
    window: int = Field(default=5, ge=1)
    epochs: int = Field(default=5, ge=1)
