"""`prompt_tuning`: trained vectors before the input, all else frozen (Lester et al. 2021)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.adapters.method import Method
from components.adapters.task_data import TaskData
from components.adapters.virtual_tokens import VirtualTokens, initial_embeddings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class PromptTuning(VirtualTokens):
    """Lester et al. 2021, section 2; their learning rate, 0.3, is that of section 3."""

    method: Literal["prompt_tuning"]
    learning_rate: float = Field(default=0.3, gt=0)


def build(base: "PreTrainedModel", block: PromptTuning, data: TaskData) -> "PeftModel":
    """`base` frozen, behind virtual tokens."""
    import torch
    from peft import PromptTuningConfig, get_peft_model

    vectors = initial_embeddings(base, block, data)
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=block.virtual_tokens)
    model = get_peft_model(base, config)
    with torch.no_grad():
        model.prompt_encoder["default"].embedding.weight.copy_(vectors)
    return model


METHOD = Method(PromptTuning, build)
