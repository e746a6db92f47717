"""`dpo`: low-rank deltas that learn which of two answers is preferred (Rafailov et al. 2023)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.adapters.low_rank import LowRank, build
from components.adapters.method import Method
from components.adapters.task_data import TaskData

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from components.adapters.preference_loss import PreferenceLoss


class Dpo(LowRank):
    """Rafailov et al. 2023, section 4. beta: how dear it is to leave the base, as in equation 7.

    The answer that a row prefers is its own; the other is its `rejected`, or else the answer of
    another label, drawn by `seed`.
    """

    method: Literal["dpo"]
    beta: float = Field(default=0.1, gt=0)


def objective(model: "PreTrainedModel", block: Dpo, data: TaskData) -> "PreferenceLoss":
    """Equation 7. See `method.Method`."""
    from components.adapters.preference_loss import PreferenceLoss

    return PreferenceLoss(model, data, block.beta, block.seed)


METHOD = Method(
    Dpo,
    build,
    objective=objective,
    passes=lambda block: 2,  # with its deltas, and without them as its own reference
)
