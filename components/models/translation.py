"""What a catalogue says of a model that translates, and its folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from components.block import Block
from components.lineage import read_json, write_json

if TYPE_CHECKING:
    from components.models.seq2seq import Seq2Seq
    from components.models.transformer import Transformer

WEIGHTS = "model.safetensors"


class Translating(Block):
    """width: of embeddings and states. longest: tokens of a sentence, its end counted in; longer
    pairs are left out of training and longer sentences are cut before translating.
    label_smoothing: the share of probability that a target leaves to other tokens.
    """

    width: int = Field(ge=8, multiple_of=2)
    layers: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    longest: int = Field(default=64, ge=4)


class Seq2SeqModel(Translating):
    """LSTMs. attention: none is one context vector, additive Bahdanau's, multiplicative Luong's."""

    family: Literal["seq2seq"]
    attention: Literal["none", "additive", "multiplicative"] = "none"


class TransformerModel(Translating):
    """inner: the width of the feed-forward layers; None is 4 x width, as in the paper."""

    family: Literal["transformer"]
    heads: int = Field(default=4, ge=1)
    inner: int | None = Field(default=None, ge=8)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "TransformerModel":
        if self.width % self.heads:
            raise ValueError(
                f"width {self.width} is no multiple of heads {self.heads}: each head has its share"
            )
        return self


def build(
    block: Seq2SeqModel | TransformerModel, vocabulary: int, pad: int, seed: int
) -> "Seq2Seq | Transformer":
    """A model that has learned nothing. vocabulary: tokens. pad: the number of that for padding."""
    import torch

    torch.manual_seed(seed)
    if block.family == "seq2seq":
        from components.models.seq2seq import Seq2Seq

        return Seq2Seq(vocabulary, pad, block.width, block.layers, block.dropout, block.attention)
    from components.models.transformer import Transformer

    return Transformer(
        vocabulary,
        pad,
        block.width,
        block.layers,
        block.heads,
        block.inner or 4 * block.width,
        block.dropout,
        block.longest,
    )


def save(model: "Seq2Seq | Transformer", block: Seq2SeqModel | TransformerModel, out: Path) -> None:
    """Write `config.json` and the weights into `out`."""
    from safetensors.torch import save_file

    save_file({name: part.contiguous() for name, part in model.state_dict().items()}, out / WEIGHTS)
    sizes = {"vocabulary": model.embedding.num_embeddings, "pad": model.pad}
    write_json(out / "config.json", {**block.model_dump(), **sizes})


def load(folder: Path) -> "tuple[Seq2Seq | Transformer, Seq2SeqModel | TransformerModel]":
    """The model that `save` wrote, in evaluation mode, and its block."""
    from safetensors.torch import load_file

    config = read_json(folder / "config.json")
    vocabulary, pad = config.pop("vocabulary"), config.pop("pad")
    kinds = {"seq2seq": Seq2SeqModel, "transformer": TransformerModel}
    block = kinds[config["family"]].model_validate(config)
    model = build(block, vocabulary, pad, seed=0)
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval(), block
