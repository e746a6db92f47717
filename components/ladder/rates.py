"""Which learning rate a rung trains with: of several, the one whose trial ends best."""

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.ladder.block import Rung, settings
from components.ladder.ground import Ground
from components.lineage import read_json, value_hash, write_json
from components.locks import Held, hold
from components.reporter import Reporter, Silent
from components.training.loop import Diverged

SEED = 0  # of the trials: trainings have those from 1 on
Train = Callable[[Rung, Ground, Path], dict[str, float]]


def settled(
    rung: Rung, ground: Ground, train: Train, trials: Path, origin: str
) -> tuple[Rung, list[dict[str, Any]]]:
    """`rung` with one learning rate, and what was tried: {"learning_rate", "validation_loss",
    "chosen"}, the loss None where training diverged. Nothing is tried where the rung has one rate.

    Each rate is tried for `training.trial_steps` steps from the same weights on the same rows, a
    whole schedule in them; the lowest validation loss wins. Trials are kept in `trials` under the
    hash of their settings and of `origin`, which stands for data, code and versions: the trainings
    from other seeds read them, and those that run side by side share the work.

    Raises:
        ValueError: training diverged at each rate.
    """
    rates = rung.training.rates
    if len(rates) == 1:
        return rung, []
    tried = [_Trial.of(rung, rate, origin, trials) for rate in rates]
    for wait in (0.0, math.inf):  # first those that no other training is at
        for number, trial in enumerate(tried):
            trial.make(replace(ground, report=_Part(ground.report, number, rates)), train, wait)
    ended = [trial for trial in tried if trial.loss is not None]
    if not ended:
        raise ValueError(f"training diverged at each learning rate of {rates}; name lower ones")
    best = min(ended, key=lambda trial: trial.loss)
    ground.report.params({"learning_rate": best.rate})
    return _with(rung, learning_rate=best.rate), [
        {"learning_rate": trial.rate, "validation_loss": trial.loss, "chosen": trial is best}
        for trial in tried
    ]


@dataclass(frozen=True)
class _Trial:
    """A training at one rate, in a folder of its own that outlives the stage."""

    rung: Rung
    rate: float
    folder: Path

    @classmethod
    def of(cls, rung: Rung, rate: float, origin: str, trials: Path) -> "_Trial":
        tried = _with(rung, learning_rate=rate, steps=rung.training.tried_for)
        if getattr(tried.model, "classifier", None) is not None:  # which is fitted afterwards
            bare = tried.model.model_copy(update={"classifier": None})
            tried = tried.model_copy(update={"model": bare})
        return cls(tried, rate, trials / value_hash([origin, settings(tried)]))

    @property
    def loss(self) -> float | None:
        """The validation loss that it came to; None where it diverged."""
        return read_json(self._kept)["validation_loss"]

    @property
    def _kept(self) -> Path:
        return self.folder / "trial.json"

    def make(self, ground: Ground, train: Train, wait: float) -> None:
        """Train, unless that was done; leave it to whoever is at it, after `wait` seconds."""
        with suppress(Held), hold(self.folder / "lock", wait):
            if self._kept.is_file():
                return
            places = {"checkpoints": self.folder / "checkpoints", "identity": self.folder.name}
            loss = self._train(replace(ground, seed=SEED, also=None, **places), train)
            write_json(self._kept, {"validation_loss": loss})
            for part in self._parts():
                shutil.rmtree(part, ignore_errors=True)

    def _train(self, ground: Ground, train: Train) -> float | None:
        made, checkpoints = self._parts()
        shutil.rmtree(made, ignore_errors=True)
        for folder in (made, checkpoints):
            folder.mkdir(exist_ok=True)
        try:
            return train(self.rung, ground, made)["validation_loss"]
        except Diverged:  # too high a rate is a result of a trial, not an error
            return None

    def _parts(self) -> Iterator[Path]:
        return iter((self.folder / "model", self.folder / "checkpoints"))


class _Part(Silent):
    """Tells the bar alone how far a trial is, as one of several."""

    def __init__(self, report: Reporter, number: int, rates: list[float]) -> None:
        self._report, self._number, self._rates = report, number, rates

    def progress(self, done: float, total: float, note: str = "") -> None:
        said = f"trying learning rate {self._rates[self._number]:g}, {note}"
        self._report.progress(self._number + done / total, len(self._rates), said)


def _with(rung: Rung, **changes: Any) -> Rung:
    """`rung` with other settings of its training, and one rate."""
    training = rung.training.model_copy(update={**changes, "trial_steps": None})
    return rung.model_copy(update={"training": training})
