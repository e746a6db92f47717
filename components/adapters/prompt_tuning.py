"""`prompt_tuning`: trained vectors before the input, all else frozen (Lester et al. 2021)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from components.adapters import answering
from components.adapters.method import Method
from components.adapters.task_data import TaskData
from components.adapters.virtual_tokens import BEGINNINGS, VirtualTokens, initial_embeddings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from components.adapters.answer_loss import AnswerLoss


class PromptTuning(VirtualTokens):
    """Lester et al. 2021, section 2; their learning rate, 0.3, is that of section 3.

    ensemble: so many soft prompts are trained side by side on the same rows, begun with the seeds
    from `seed` on, and vote (section 7). The first of them generates. `init` must leave the seeds
    something to choose.
    """

    method: Literal["prompt_tuning"]
    ensemble: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=0.3, gt=0)

    @model_validator(mode="after")
    def _seeds_have_a_say(self) -> "PromptTuning":
        if self.ensemble > 1 and self.init == "text":
            raise ValueError("init: text begins the same for every member of an ensemble")
        return self


def build(base: "PreTrainedModel", block: PromptTuning, data: TaskData) -> "PeftModel":
    """`base` frozen, behind virtual tokens: PEFT's adapter `default`, and `member_1`, ...

    Raises:
        ValueError: two members of an ensemble begin equal, and would learn the same.
    """
    import torch
    from peft import PromptTuningConfig, get_peft_model

    def config() -> PromptTuningConfig:
        return PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=block.virtual_tokens)

    members = [
        initial_embeddings(base, block.model_copy(update={"seed": block.seed + number}), data)
        for number in range(block.ensemble)
    ]
    if len({tuple(vectors.flatten().tolist()) for vectors in members}) < block.ensemble:
        raise ValueError(
            f"init '{block.init}' with {block.virtual_tokens} virtual_tokens begins the same for "
            f"two of the {block.ensemble} members of the ensemble, which would learn the same; "
            "choose init: vocabulary, or raise virtual_tokens"
        )
    model = get_peft_model(base, config())
    for number in range(1, block.ensemble):
        model.add_adapter(f"member_{number}", config())
    with torch.no_grad():
        for encoder, vectors in zip(model.prompt_encoder.values(), members, strict=True):
            encoder.embedding.weight.copy_(vectors)
    return model


def objective(model: "PeftModel", block: PromptTuning, data: TaskData) -> "AnswerLoss":
    """-log p of the answers' tokens. See `method.Method`."""
    if block.ensemble == 1:
        return answering.objective(model, block, data)
    from components.adapters.ensemble import EnsembleLoss

    return EnsembleLoss(model, data)


def scores(
    model: "PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    labels: Mapping[str, str],
) -> list[dict[str, float]]:
    """As `answering.scores`; the log of the share of votes where there are several prompts."""
    if len(model.prompt_encoder) == 1:
        return answering.scores(model, tokenizer, prompts, labels)
    from components.adapters.ensemble import vote

    return vote(model, tokenizer, prompts, labels)


METHOD = Method(
    PromptTuning,
    build,
    objective=objective,
    scores=scores,
    scored=f"{answering.SCORED}, or log share of an ensemble's votes",
    choices=BEGINNINGS,
    passes=lambda block: block.ensemble,
)
