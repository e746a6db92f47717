"""Learning rates of rungs: tried once, chosen by validation loss, shared between trainings."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from components.ladder import rates
from components.ladder.block import Rung
from components.ladder.ground import Ground
from components.locks import hold
from components.reporter import Silent
from components.training.loop import Diverged

RATES = [0.001, 0.01, 0.1]
LOSSES = {0.001: 3.0, 0.01: 2.0, 0.1: None}


def rung(rate=RATES, **training) -> Rung:
    model = {"family": "lstm", "layers": 1, "width": 16, "context": 32}
    settings = {"steps": 50, "batch_size": 4, "learning_rate": rate, **training}
    block = {"corpus": "c", "vocabulary": "v", "model": model, "training": settings}
    return Rung.model_validate(block)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    folder = tmp_path / "data"
    return Ground(folder, folder, folder, {}, 2, tmp_path / "checkpoints", "a", Silent())


class Trainer:
    """Remembers what it was asked to train; each rate comes to its loss in `LOSSES`."""

    def __init__(self) -> None:
        self.asked: list[tuple[Rung, Ground]] = []

    def __call__(self, block: Rung, ground: Ground, out: Path) -> dict[str, float]:
        self.asked.append((block, ground))
        loss = LOSSES[block.training.learning_rate]
        if loss is None:
            raise Diverged("the loss is nan")
        (out / "model").write_text("weights")
        return {"validation_loss": loss}


def test_the_rate_with_the_lowest_loss_trains_the_rung(ground, tmp_path):
    trainer = Trainer()
    found, told = rates.settled(rung(), ground, trainer, tmp_path / "trials", "o")
    assert found.training.learning_rate == 0.01 and found.training.steps == 50
    assert [(t["learning_rate"], t["validation_loss"]) for t in told] == list(LOSSES.items())
    assert [t["chosen"] for t in told] == [False, True, False]
    for block, given in trainer.asked:
        assert block.training.steps == 50 and given.seed == rates.SEED
        assert given.checkpoints.parent.parent == tmp_path / "trials"
    assert {path.name for path in (tmp_path / "trials").glob("*/*")} == {"lock", "trial.json"}


def test_a_trial_is_made_once_for_all_seeds_and_anew_where_anything_differs(ground, tmp_path):
    trials, trainer = tmp_path / "trials", Trainer()
    for seed in (1, 2, 3):
        rates.settled(rung(), replace(ground, seed=seed), trainer, trials, "o")
    assert len(trainer.asked) == 3
    rates.settled(rung(RATES[:2]), ground, trainer, trials, "o")  # a rate less
    assert len(trainer.asked) == 3
    rates.settled(rung(), ground, trainer, trials, "other data")
    assert len(trainer.asked) == 6
    rates.settled(rung(trial_steps=20), ground, trainer, trials, "o")
    assert len(trainer.asked) == 9


def test_trainings_side_by_side_share_the_trials(ground, tmp_path):
    """What another process is at is left for last, and then waited for."""
    trials, trainer = tmp_path / "trials", Trainer()
    first = rates._Trial.of(rung(), RATES[0], "o", trials).folder
    done = threading.Event()

    def another():
        with hold(first / "lock"):
            held.set()
            while len(trainer.asked) < 2:
                done.wait(0.01)
            rates.write_json(first / "trial.json", {"validation_loss": 1.0})

    held = threading.Event()
    thread = threading.Thread(target=another)
    thread.start()
    assert held.wait(10)
    found, _ = rates.settled(rung(), ground, trainer, trials, "o")
    thread.join()
    assert [block.training.learning_rate for block, _ in trainer.asked] == RATES[1:]
    assert found.training.learning_rate == RATES[0]


def test_one_rate_is_not_tried(ground, tmp_path):
    block = rung(0.01)
    assert rates.settled(block, ground, None, tmp_path / "trials", "o") == (block, [])
    assert not (tmp_path / "trials").exists()


def test_where_every_rate_diverges_the_rung_is_refused(ground, tmp_path):
    with pytest.raises(ValueError, match=r"diverged at each learning rate of \[0.1, 0.2\]"):
        rates.settled(rung([0.1, 0.2]), ground, diverge, tmp_path / "trials", "o")


def diverge(*_):
    raise Diverged("the loss is nan")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"learning_rate": 0.1, "trial_steps": 5}, "with one learning_rate nothing is tried"),
        ({"learning_rate": [0.1, 0.1]}, "names one rate twice"),
        ({"learning_rate": [0.1]}, "at least 2 items"),
        ({"learning_rate": [0.1, -1]}, "greater than 0"),
    ],
)
def test_what_cannot_be_tried_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        rung(settings.pop("learning_rate"), **settings)
