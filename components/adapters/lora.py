"""`lora`: a low-rank delta beside frozen matrices (Hu et al. 2021)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.adapters import peft_folder
from components.adapters.settings import Trained

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Lora(Trained):
    """Hu et al. 2021, section 4. The delta is alpha / rank x B A; alpha left out: 2 x rank.

    targets: the matrices that get one, or `all-linear` (Dettmers et al. 2023, section 4: adapters
    on all layers are needed to match full fine-tuning).
    """

    method: Literal["lora"]
    rank: int = Field(default=8, ge=1)
    alpha: float | None = Field(default=None, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: list[str] | Literal["all-linear"] = "all-linear"
    learning_rate: float = Field(default=2e-3, gt=0)


def build(
    base: "PreTrainedModel", block: Lora, tokenizer: "PreTrainedTokenizerBase", answers: list[str]
) -> "PeftModel":
    """`base` frozen, with deltas that are zero at first (B = 0)."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=block.rank,
        lora_alpha=block.alpha or 2 * block.rank,
        lora_dropout=block.dropout,
        target_modules=block.targets,
    )
    return get_peft_model(base, config)


save = peft_folder.save
load = peft_folder.load
