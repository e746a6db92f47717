"""Low-rank deltas beside frozen matrices, for the methods that train them (Hu et al. 2021)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.adapters.settings import Trained
from components.adapters.task_data import TaskData
from components.mistakes import suggestion

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class LowRank(Trained):
    """Hu et al. 2021, section 4. The delta is alpha / rank x B A; alpha left out: 2 x rank.

    rank_stabilised: alpha / sqrt(rank) instead, so that a delta of high rank learns as fast as one
    of low rank (Kalajdzievski 2023, section 3). dora: the delta turns the columns of a matrix, and
    a trained vector says how long they are (Liu et al. 2024, section 4.1). targets: the matrices
    that get a delta, or `all-linear` (Dettmers et al. 2023, section 4: adapters on all layers are
    needed to match full fine-tuning).
    """

    rank: int = Field(default=8, ge=1)
    alpha: float | None = Field(default=None, gt=0)
    rank_stabilised: bool = False
    dora: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: list[str] | Literal["all-linear"] = "all-linear"
    learning_rate: float = Field(default=2e-3, gt=0)


def build(base: "PreTrainedModel", block: LowRank, data: TaskData) -> "PeftModel":
    """`base` frozen, with deltas that are zero at first (B = 0).

    Raises:
        ValueError: a target is no matrix of the base.
    """
    from peft import LoraConfig, get_peft_model

    if not isinstance(block.targets, str):
        _require(base, block.targets)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=block.rank,
        lora_alpha=block.alpha or 2 * block.rank,
        use_rslora=block.rank_stabilised,
        use_dora=block.dora,
        lora_dropout=block.dropout,
        target_modules=block.targets,
    )
    return get_peft_model(base, config)


def _require(base: "PreTrainedModel", targets: list[str]) -> None:
    """Raise ValueError where `base` has no module of a target's name: PEFT passes over it."""
    names = [name for name, _ in base.named_modules()]
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in names):
            weights = [name.split(".") for name, w in base.named_parameters() if w.ndim == 2]
            said = suggestion(target, {parts[-2] for parts in weights})
            raise ValueError(f"targets: the base has no matrix '{target}'{said}")
