"""The sizes of the ladder's language models that have no attention."""

from typing import Literal

from pydantic import Field

from components.block import Block


class Sequence(Block):
    """context: tokens that a sequence of training has; tests read whole documents."""

    width: int = Field(ge=4)
    context: int = Field(ge=4)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class NGramBlock(Sequence):
    """order: n; the model sees n - 1 tokens. hidden: units between them and what it says."""

    family: Literal["ngram"]
    order: int = Field(ge=2)
    hidden: int = Field(ge=4)


class RNNBlock(Sequence):
    family: Literal["rnn"]
    layers: int = Field(ge=1)


class LSTMBlock(Sequence):
    family: Literal["lstm"]
    layers: int = Field(ge=1)
