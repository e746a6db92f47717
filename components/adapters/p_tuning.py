"""`p_tuning`: vectors before the input that an encoder makes, all else frozen (Liu et al. 2021)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.adapters.method import Method
from components.adapters.task_data import TaskData
from components.adapters.virtual_tokens import (
    BEGINNINGS,
    VirtualTokens,
    begin_as,
    initial_embeddings,
)

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class PTuning(VirtualTokens):
    """Liu et al. 2021, section 3: an encoder lets the virtual tokens depend on each other.

    encoder: `lstm`, two bidirectional layers and an MLP, is the paper's (section 3.2); `mlp`, three
    layers, is cheaper. encoder_width: of its hidden layers; left out: the base's.

    The encoder serves the training alone: what is kept are the vectors that it makes.
    """

    method: Literal["p_tuning"]
    encoder: Literal["lstm", "mlp"] = "mlp"
    encoder_width: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=1e-2, gt=0)

    def told_apart(self, width: int | None) -> int | None:
        hidden = self.encoder_width or width
        both_ways = 2 if self.encoder == "lstm" else 1
        return hidden and both_ways * hidden


def build(base: "PreTrainedModel", block: PTuning, data: TaskData) -> "PeftModel":
    """`base` frozen, behind virtual tokens that an encoder makes.

    Raises:
        ValueError: the encoder is too narrow for so many virtual tokens.
    """
    from peft import PromptEncoderConfig, get_peft_model

    vectors = initial_embeddings(base, block, data)
    config = PromptEncoderConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=block.virtual_tokens,
        encoder_reparameterization_type=block.encoder.upper(),
        encoder_hidden_size=block.encoder_width,
    )
    model = get_peft_model(base, config)
    encoder = model.prompt_encoder["default"]
    begin_as(encoder, encoder.mlp_head[-1], vectors)
    return model


METHOD = Method(PTuning, build, choices=BEGINNINGS)
