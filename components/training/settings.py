"""How a run of the loop is asked for, whatever is trained."""

from pydantic import Field

from components.block import Block
from components.training.machine import Precision


class Steps(Block):
    """How long and how fast to train. batch_size: rows of a step; warmup: part of the steps."""

    steps: int = Field(default=300, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(gt=0)
    warmup: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    evaluations: int = Field(default=5, ge=1, description="of the validation loss, in all")
    checkpoint_minutes: float = Field(default=1.0, gt=0)
    precision: Precision = "auto"
