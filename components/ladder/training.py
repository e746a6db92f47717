"""How a rung is trained."""

from components.training.optimizers import Optimizer
from components.training.schedule import Schedule
from components.training.settings import Steps


class Training(Steps):
    """`Steps` of a whole model, whose seed is that of its stage."""

    schedule: Schedule = "cosine"
    optimizer: Optimizer = "adamw"
