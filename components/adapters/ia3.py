"""`ia3`: keys, values and feed-forward activations scaled by trained vectors (Liu et al. 2022)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.adapters.method import Method
from components.adapters.settings import Trained
from components.adapters.task_data import TaskData

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class IA3(Trained):
    """Liu et al. 2022 ("Few-Shot Parameter-Efficient Fine-Tuning ..."), section 3.3.

    So few numbers want a larger learning rate than matrices do.
    """

    method: Literal["ia3"]
    learning_rate: float = Field(default=5e-2, gt=0)


def build(base: "PreTrainedModel", block: IA3, data: TaskData) -> "PeftModel":
    """`base` frozen, with scales that are 1 at first; PEFT knows the layers of each architecture.

    Raises:
        ValueError: PEFT does not know the base's architecture.
    """
    from peft import IA3Config, get_peft_model

    return get_peft_model(base, IA3Config(task_type="CAUSAL_LM"))


METHOD = Method(IA3, build)
