"""How a rung is trained."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from components.training.optimizers import Optimizer
from components.training.schedule import Schedule
from components.training.settings import Steps

Rate = Annotated[float, Field(gt=0)]


def _how_many(value: Any) -> str:
    """So that a mistake is told of the form that was meant."""
    return "several" if isinstance(value, list) else "one"


OneOrSeveral = Annotated[
    Annotated[Rate, Tag("one")] | Annotated[list[Rate], Field(min_length=2), Tag("several")],
    Discriminator(_how_many),
]


class Training(Steps):
    """`Steps` of a whole model, whose seed is that of its stage.

    learning_rate: one, or several, each of which is tried (see `ladder.rates`). trial_steps: of a
    trial; `steps` by default: shorter ones were seen to choose other rates.
    """

    learning_rate: OneOrSeveral
    trial_steps: int | None = Field(default=None, ge=1)
    schedule: Schedule = "cosine"
    optimizer: Optimizer = "adamw"

    @model_validator(mode="after")
    def _tried_where_there_is_a_choice(self) -> "Training":
        several = isinstance(self.learning_rate, list)
        if several and len(set(self.learning_rate)) < len(self.learning_rate):
            raise ValueError(f"learning_rate: {self.learning_rate} names one rate twice")
        if not several and self.trial_steps is not None:
            raise ValueError("trial_steps: with one learning_rate nothing is tried; drop it")
        return self

    @property
    def rates(self) -> list[float]:
        """The learning rates that come into question."""
        return self.learning_rate if isinstance(self.learning_rate, list) else [self.learning_rate]

    @property
    def tried_for(self) -> int:
        """The steps of a trial."""
        return self.trial_steps or self.steps
