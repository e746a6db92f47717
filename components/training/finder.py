"""Where a learning rate may lie: the range test of Smith 2017, section 3.3.

One short training whose rate grows by equal factors. While it is too small the loss hardly falls;
beyond what is right it rises. A hundred noisy steps say about where to look, not what is best: a
search looks to both sides of it.
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from components.reporter import Silent
from components.training.checkpoint import Checkpoints
from components.training.loop import Diverged, Interrupted, Objective, train
from components.training.plan import Plan

STEPS = 100
MOST = 10.0  # beyond any rate that trains: soft prompts, the most patient, take about 1
SMOOTHED = 0.9  # of the running mean of the loss stays with each step
BEYOND = 2.0  # times the lowest smoothed loss so far: the rest of the test would only rise


@dataclass(frozen=True)
class Found:
    """rate: that of the lowest loss; None: the loss fell at none. curve: (rate, smoothed loss) of
    each step that was made.
    """

    rate: float | None
    curve: list[tuple[float, float]]


class _Enough(Exception):
    """The loss has turned up for good."""


class _Watch(Silent):
    """Smooths the losses as they are told, and ends the test."""

    def __init__(self) -> None:
        self.curve: list[tuple[float, float]] = []
        self._mean, self._weight = 0.0, 0.0

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        if "loss" not in values:
            return
        self._mean = SMOOTHED * self._mean + (1 - SMOOTHED) * values["loss"]
        self._weight = SMOOTHED * self._weight + (1 - SMOOTHED)
        smooth = self._mean / self._weight  # the first steps count as if they were all
        self.curve.append((values["learning_rate"], smooth))
        if smooth > BEYOND * min(loss for _, loss in self.curve):
            raise _Enough


def find_rate(objective: Objective, plan: Plan) -> Found:
    """Train `objective` for the test, about which rate suits `plan`. Its weights are spent.

    Raises:
        Interrupted: SIGTERM or SIGINT came. Nothing is kept of a test that was not ended.
    """
    watch = _Watch()
    rising = {"steps": STEPS, "evaluate_every": STEPS, "learning_rate": MOST, "schedule": "range"}
    tested = replace(plan, compile="never", **rising)
    with tempfile.TemporaryDirectory() as folder, suppress(_Enough, Diverged):
        try:
            train(objective, tested, Checkpoints(Path(folder), "range"), watch)
        except Interrupted:  # its message promises a checkpoint
            raise Interrupted(
                "stopped in the range test for a learning rate, of which nothing is kept; the same "
                "command begins it anew"
            ) from None
    return Found(lowest(watch.curve), watch.curve)


def lowest(curve: Sequence[tuple[float, float]]) -> float | None:
    """The rate at which the smoothed loss was lowest; None where that was the first step."""
    place = min(range(len(curve)), key=lambda step: curve[step][1]) if curve else 0
    return curve[place][0] if place else None
