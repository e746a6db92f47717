"""BERT (Devlin et al. 2019): an encoder whose every word sees the words on both sides of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from components.block import Block
from components.ladder.training import Training

if TYPE_CHECKING:
    from transformers import BertForMaskedLM, BertForSequenceClassification

FEED_FORWARD = 4  # times the width: Devlin et al. 2019, section 3


class Bert(Block):
    """The size of an encoder. context: the longest sequence, in tokens.

    classifier: how it is fitted to the labelled data set `also`; left out, it is not.
    """

    family: Literal["bert"]
    layers: int = Field(ge=1)
    width: int = Field(ge=8)
    heads: int = Field(ge=1)
    context: int = Field(ge=8)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    classifier: Training | None = None

    @field_validator("classifier")
    @classmethod
    def _one_rate(cls, value: Training | None) -> Training | None:
        if value is not None and len(value.rates) > 1:
            raise ValueError(
                f"learning_rate: {value.learning_rate}: rates of a classifier are not tried; name "
                "one"
            )
        return value

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "Bert":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        return self


def build(block: Bert, vocabulary: int, pad: int, seed: int) -> "BertForMaskedLM":
    """A randomly initialised model. vocabulary: tokens; one more entry, the last, is the mask.

    Weights deviate by 1 / sqrt(width), so that what a layer gives is as large as what it reads. The
    paper's 0.02 was chosen for widths of 768 and more.
    """
    import torch
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=vocabulary + 1,
        hidden_size=block.width,
        num_hidden_layers=block.layers,
        num_attention_heads=block.heads,
        intermediate_size=FEED_FORWARD * block.width,
        max_position_embeddings=block.context,
        hidden_dropout_prob=block.dropout,
        attention_probs_dropout_prob=block.dropout,
        initializer_range=block.width**-0.5,
        type_vocab_size=1,  # one text at a time: there is no next sentence to tell from it
        pad_token_id=pad,
    )
    torch.manual_seed(seed)
    return BertForMaskedLM(config)


def mask_of(model: "BertForMaskedLM") -> int:
    """The number of the token that hides another."""
    return model.config.vocab_size - 1


def load(folder: Path) -> "BertForMaskedLM":
    """The model of a rung's folder, in evaluation mode and float32."""
    import torch
    from transformers import BertForMaskedLM

    return BertForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()


def classifier(
    encoder: "BertForMaskedLM", labels: list[str], seed: int
) -> "BertForSequenceClassification":
    """`encoder` with a new classifier on the state of its first token (section 4.1)."""
    import torch
    from transformers import BertForSequenceClassification

    config = type(encoder.config).from_dict(encoder.config.to_dict())
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in config.id2label.items()}
    torch.manual_seed(seed)
    model = BertForSequenceClassification(config)
    own = model.bert.state_dict()
    model.bert.load_state_dict({**own, **encoder.bert.state_dict()})  # which has no pooler
    return model


def load_classifier(folder: Path) -> "BertForSequenceClassification":
    import torch
    from transformers import BertForSequenceClassification

    return BertForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
