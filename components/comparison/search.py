"""The search: a method's learning rate and choices, tuned under a token budget on validation data.

Each trial is kept by the hash of all that shapes it, so that an interrupted search goes on, and one
with more trials or seeds makes only what is new.
"""

import math
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.adapters.training import fitting_of, learning_rate_of, train_adapter
from components.comparison import space
from components.comparison.block import Comparison, Entry, is_trained
from components.comparison.ground import SEED, Ground
from components.comparison.possible import choices_of
from components.evaluation import validation_score
from components.lineage import read_json, value_hash, write_json
from components.locks import hold
from components.metric_names import LOWER_IS_BETTER
from components.reporter import Reporter, Silent
from components.training.checkpoint import Checkpoints
from components.training.loop import Diverged

PATIENCE = 3  # trials that must have come to their end before one is stopped for being worse
NO_TEST = {"rate": None, "curve": [], "seconds": 0.0}  # of what has no learning rate


class _Pruned(Exception):
    """This trial is worse than half of the others were on the way to the same step."""


class _Judge(Silent):
    """Watches a trial's validation loss, and stops it by the median rule of Golovin et al. 2017
    (section 3.2.2): its best loss so far is worse than the median, over the trials that came to
    their end, of the mean of the losses that each had up to the same evaluation.

    Not in the first half of the steps, where a low learning rate is behind whatever it comes to,
    nor at the last one, where nothing is left to save.
    """

    def __init__(
        self,
        earlier: Sequence[Mapping[str, Any]],
        steps: int,
        history: Sequence[Mapping[str, float]] = (),
    ) -> None:
        """history: what an interrupted try was told, which is not told again."""
        told = "validation_loss"
        self.losses: list[float] = [figures[told] for figures in history if told in figures]
        self._ended = [trial["losses"] for trial in earlier if not trial["stopped"]]
        self._steps = steps

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        if "validation_loss" not in values:
            return
        self.losses.append(values["validation_loss"])
        if not self._steps / 2 <= step < self._steps or len(self._ended) < PATIENCE:
            return
        means = [statistics.mean(losses[: len(self.losses)]) for losses in self._ended]
        if min(self.losses) > statistics.median(means):
            raise _Pruned


def search(
    entry: Entry, comparison: Comparison, ground: Ground, out: Path, report: Reporter
) -> dict[str, float]:
    """Tune `entry` and write `search.json`: the trials, and the settings of the best.

    The best has the best score on validation data; of equals, the lowest loss.

    Raises:
        ValueError: the task has too few rows, nothing that a method leaves open is possible, or
            every trial diverged.
    """
    choices = choices_of(entry, ground)
    begun = {  # with what is measured: the defaults, as far as they are possible
        name: values[0]
        for name, values in choices.items()
        if getattr(entry.adapter, name) not in values
    }
    steps = steps_of(entry, begun, comparison.budget, ground) if is_trained(entry.adapter) else 0
    found = _range_test(entry.block(begun, SEED, steps), ground) if steps else NO_TEST
    hint = found["rate"]
    if steps and hint is None:  # the loss fell at no rate: the method's own is all that is known
        hint = entry.adapter.learning_rate
    lower = read_json(ground.task / "task.json")["metric"] in LOWER_IS_BETTER
    trials: list[dict[str, Any]] = []
    count = space.count(entry.adapter, choices, comparison.trials)
    for number in range(count):
        chosen = space.point(entry.adapter, choices, number, hint)
        trials.append(_trial(entry, chosen, steps, ground, trials))
        _tell(trials, count, lower, report)
    best = best_of(trials, lower)
    if best is None:
        raise ValueError(
            f"comparison {entry.comparison}: every trial of {entry.name} diverged; look at the "
            "data, or lower the method's 'clip'"
        )
    written = {
        "key": entry.key,
        "trials": trials,
        "best": best,
        "steps": steps,
        "range_test": found["curve"],
        "range_test_rate": found["rate"],
        "seconds": round(found["seconds"] + sum(trial["seconds"] for trial in trials), 2),
    }
    write_json(out / "search.json", written)
    return {"score": best["score"], "trials": float(count)}


def _range_test(begun: Any, ground: Ground) -> dict[str, Any]:
    """About which `rate` suits, if any, the `curve` that says so, and the `seconds` it took.

    Kept like a trial: what a search took is told the same when it is made again.
    """
    key = value_hash([ground.origin, "range test", begun.model_dump(mode="json")])
    kept = ground.trials / key / "range_test.json"
    with hold(kept.with_name("lock"), wait=math.inf):
        if not kept.is_file():
            started = time.perf_counter()
            found = learning_rate_of(begun, ground.task, ground.base)
            taken = round(time.perf_counter() - started, 2)
            write_json(kept, {"rate": found.rate, "curve": found.curve, "seconds": taken})
        return read_json(kept)


def steps_of(entry: Entry, begun: Mapping[str, Any], budget: int, ground: Ground) -> int:
    """How many steps of `entry` with settings `begun` read `budget` tokens.

    What is counted is told in `Fitting.tokens_of_step`.

    Raises:
        ValueError: the budget is less than one step, or the task has too few rows.
    """
    fitting = fitting_of(entry.block(begun, SEED, 0), ground.task, ground.base)
    per_step = fitting.tokens_of_step()
    if budget < per_step:
        raise ValueError(
            f"comparisons.{entry.comparison}.budget {budget} is less than one step of "
            f"{entry.name}, about {per_step:.0f} tokens; raise it, or lower batch_size"
        )
    return int(budget / per_step)


def _tell(trials: Sequence[Mapping[str, Any]], count: int, lower: bool, report: Reporter) -> None:
    """Say how far the search is."""
    done, best = len(trials), best_of(trials, lower)
    if best is not None:
        figures = {"score": trials[-1]["score"], "best_score": best["score"]}
        report.metrics({k: v for k, v in figures.items() if v is not None}, step=done)
    said = f"{best['score']:.3f} with {told(best['settings'])}" if best else "diverged so far"
    report.progress(done, count, said)


def _trial(
    entry: Entry,
    chosen: Mapping[str, Any],
    steps: int,
    ground: Ground,
    earlier: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Make a trial of the settings `chosen`, or read what it gave before."""
    block = entry.block(chosen, SEED, steps)
    folder = ground.trials / value_hash([ground.origin, block.model_dump(mode="json")])
    with hold(folder / "lock", wait=math.inf):  # searches that share a trial make it once
        if not (folder / "trial.json").is_file():
            checkpoints = Checkpoints(folder / "checkpoints", folder.name)
            history, spent = checkpoints.so_far()
            judge, started = _Judge(earlier, steps, history), time.perf_counter()
            score = _score(block, entry.name, ground, checkpoints, judge)
            record = {
                "settings": dict(chosen),
                "score": score,  # None: never measured, for the training was stopped or diverged
                "losses": judge.losses,
                "stopped": score is None,
                "seconds": round(spent + time.perf_counter() - started, 2),
            }
            write_json(folder / "trial.json", record)
            for part in ("adapter", "checkpoints"):
                shutil.rmtree(folder / part, ignore_errors=True)
        return read_json(folder / "trial.json")


def _score(
    block: Any, name: str, ground: Ground, checkpoints: Checkpoints, judge: _Judge
) -> float | None:
    """What `block` scores on validation data; None where its training was stopped or diverged."""
    made = checkpoints.folder.with_name("adapter")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    try:
        train_adapter(
            block,
            name,
            ground.task,
            ground.base,
            made,
            checkpoints=checkpoints.folder,
            identity=checkpoints.identity,
            report=judge,
        )
        return validation_score(made, ground.task, ground.base)
    except (_Pruned, Diverged):  # too high a rate is a result of a trial, not an error
        return None


def best_of(trials: Sequence[Mapping[str, Any]], lower: bool = False) -> Mapping[str, Any] | None:
    """The trial with the best score; of equals the one with the lowest loss, then the first.

    None where none came to its end. lower: whether a lower score is better.
    """
    sign = -1 if lower else 1
    whole = [trial for trial in trials if not trial["stopped"]]
    return max(
        whole,
        key=lambda trial: (sign * trial["score"], -min(trial["losses"][-1:] or [0.0])),
        default=None,
    )


def told(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
