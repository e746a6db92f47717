"""`full`: every weight of the base is trained, and a whole model is kept."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.adapters.method import Method
from components.adapters.settings import Trained
from components.adapters.task_data import TaskData

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Trained):
    """Full fine-tuning."""

    method: Literal["full"]
    learning_rate: float = Field(default=3e-4, gt=0)


def build(base: "PreTrainedModel", block: Full, data: TaskData) -> "PreTrainedModel":
    """`base` itself, every parameter trainable."""
    return base.requires_grad_(True)


def save(model: "PreTrainedModel", folder: Path) -> None:
    model.save_pretrained(folder)


def load(base: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
    """The model of `folder`; of `base` it needs nothing."""
    from components.models import llama

    return llama.load(folder)


METHOD = Method(Full, build, save=save, load=load)
