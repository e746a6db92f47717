"""Training that counts epochs, for what has no gradient of a step's loss: word2vec and GloVe.

Each epoch is a function of its number and of what the one before left, so that a run goes on from
its last checkpoint as if it had never stopped.
"""

import time
from typing import TYPE_CHECKING, Protocol

from components.reporter import Reporter
from components.training.checkpoint import WORKED, Checkpoints

if TYPE_CHECKING:
    import numpy as np


class Learner(Protocol):
    """What learns from a whole text at a time."""

    def epoch(self, number: int) -> dict[str, float]:
        """Learn from all of it once more, as epoch `number`, from 0; what there is to tell."""

    def state(self) -> "dict[str, np.ndarray]":
        """All that an epoch changes."""

    def restore(self, state: "dict[str, np.ndarray]") -> None:
        """Go on from what `state` returned."""


def train_epochs(
    learner: Learner, epochs: int, checkpoints: Checkpoints, report: Reporter
) -> list[dict[str, float]]:
    """Train up to `epochs`, from the newest checkpoint if any; a checkpoint behind each epoch.

    Returns what each epoch told, and its number from 1; nothing in it depends on time.

    Raises:
        OSError: a checkpoint could not be written.
    """
    import torch

    done, history, worked = 0, [], 0.0
    if held := checkpoints.latest():
        done, state = held
        history, worked = state["history"], state["worked"]
        learner.restore({name: value.numpy() for name, value in state["arrays"].items()})
    for number in range(done, epochs):
        started = time.monotonic()
        history.append({"epoch": number + 1, **learner.epoch(number)})
        taken = time.monotonic() - started
        worked += taken
        report.metrics({**history[-1], "epoch_seconds": taken}, number + 1)
        report.progress(number + 1, epochs, f"epoch {number + 1}")
        arrays = {name: torch.from_numpy(value) for name, value in learner.state().items()}
        checkpoints.save(number + 1, {"arrays": arrays, "history": history, "worked": worked})
    report.metrics({WORKED: round(worked, 2)}, epochs)
    return history
