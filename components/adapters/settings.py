"""What every adapter's block has in common."""

from pydantic import Field

from components.block import Block
from components.training.settings import Steps


class Adapter(Block):
    """On which base and for which task. examples: so many of the training rows,
    drawn by `seed`; of one seed, fewer are among more.
    """

    pipeline: str
    task: str
    seed: int = 0
    examples: int | None = Field(default=None, ge=1)


class Trained(Steps, Adapter):
    """How an adapter is trained: in steps of rows of its task."""
