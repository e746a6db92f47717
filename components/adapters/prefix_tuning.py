"""`prefix_tuning`: trained keys and values before those of the input, in every layer.

Li & Liang 2021; for classification and without an encoder Liu et al. 2022 (P-Tuning v2).
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.adapters.method import Method
from components.adapters.task_data import TaskData
from components.adapters.virtual_tokens import (
    BEGINNINGS,
    VirtualTokens,
    begin_as,
    initial,
    initial_ids,
)

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel


class PrefixTuning(VirtualTokens):
    """Liu et al. 2022, section 3.3. They begin as the base's activations on the tokens of `init`.

    Li & Liang 2021, section 7.4: activations of real words beat random values by far where data
    is scarce. projection: an encoder of two layers makes them (Li & Liang 2021, section 4.3), of
    width encoder_width, left out: that of a layer's keys; it serves the training alone.
    """

    method: Literal["prefix_tuning"]
    projection: bool = False
    encoder_width: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=0.2, gt=0)

    def told_apart(self, width: int | None) -> int | None:
        return (self.encoder_width or width) if self.projection else None


def build(base: "PreTrainedModel", block: PrefixTuning, data: TaskData) -> "PeftModel":
    """`base` frozen, behind keys and values of its own at positions from 0 on.

    Raises:
        ValueError: the encoder is too narrow for so many virtual tokens.
    """
    from peft import PrefixTuningConfig, get_peft_model

    prefix = initial(_activations(base, initial_ids(base, block, data)), block)
    config = PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=block.virtual_tokens,
        prefix_projection=block.projection,
        encoder_hidden_size=block.encoder_width,
    )
    model = get_peft_model(base, config)
    encoder = model.prompt_encoder["default"]
    if block.projection:
        begin_as(encoder, encoder.transform[-1], prefix)
    else:
        encoder.load_prompt_embeddings(prefix)
    return model


def _activations(base: "PreTrainedModel", ids: "torch.Tensor") -> "torch.Tensor":
    """Keys and values of `ids` in all layers. Shape (tokens, 2 x layers x width of the keys)."""
    import torch
    from peft import prompt_embeddings_from_past_key_values

    with torch.no_grad():
        cache = base(input_ids=ids.unsqueeze(0), use_cache=True).past_key_values
    return prompt_embeddings_from_past_key_values(cache, num_virtual_tokens=len(ids))


METHOD = Method(PrefixTuning, build, choices=BEGINNINGS)
