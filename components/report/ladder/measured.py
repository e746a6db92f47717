"""What rungs measured, over their seeds: read once for tables and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.ladder.climb import Climb
from components.lineage import read_json
from components.report import canvas
from components.report.ladder.seeds import over_seeds

NONE = "–"
FLOPS = 6  # of a parameter and token, forward and backward (Kaplan et al. 2020, section 2.1)


def figures(folders: Sequence[Path], name: str) -> dict[str, Any]:
    """The figure `name` of `metrics.json`: its score and interval."""
    return over_seeds([read_json(folder / "metrics.json")[name] for folder in folders])


def shown(figure: Mapping[str, Any], form: str = "%.3f") -> str:
    """`0.712 [0.690, 0.733]`; a dash where it could not be asked, see `over_seeds`."""
    if figure["score"] is None:
        return NONE
    low, high = figure["interval"]
    return f"{form % figure['score']} [{form % low}, {form % high}]"


def first(figures: Mapping[str, Mapping[str, Any]], lower: bool) -> tuple[str, str]:
    """The rung with the best score, and in words which others may be as good: those whose intervals
    meet its own; nothing where there are none.

    lower: whether lower is better.
    """
    choose = min if lower else max
    best = choose(figures, key=lambda name: figures[name]["score"])
    low, high = figures[best]["interval"]
    others = {name: figures[name]["interval"] for name in figures if name != best}
    near = [name for name, (begin, end) in others.items() if begin <= high and low <= end]
    return best, f" It is not told apart from {', '.join(near)}." if near else ""


def has(folders: Sequence[Path], name: str) -> bool:
    return name in read_json(folders[0] / "metrics.json")


def count(folders: Sequence[Path], name: str) -> str:
    """A number of things, such as parameters, in short."""
    return canvas.short(read_json(folders[0] / "metrics.json")[name])


def curve(folders: Sequence[Path], key: str) -> tuple[list[float], list[float], list[list[float]]]:
    """The mean of a training's `key` over seeds, by tokens read: tokens, means, and (lows, highs).

    folders: of trained models.
    """
    trainings = [read_json(folder / "training.json") for folder in folders]
    rows = [[point for point in t["history"] if key in point] for t in trainings]
    steps = max(point["step"] for point in trainings[0]["history"])
    each = trainings[0]["tokens"] / steps
    values = np.array([[point[key] for point in row] for row in rows])  # (seeds, points)
    tokens = [point["step"] * each for point in rows[0]]
    return tokens, values.mean(0).tolist(), [values.min(0).tolist(), values.max(0).tolist()]


def series(folders: Sequence[Path], file: str, key: str) -> list[dict[str, Any]]:
    """A list of figures of `file`, each over seeds."""
    found = [read_json(folder / file)[key] for folder in folders]
    return [over_seeds(same) for same in zip(*found, strict=True)]


def cost(climb: Climb, names: Sequence[str]) -> str:
    """What one training of each of the rungs takes, in words."""
    told = []
    for name in names:
        about = read_json(climb.models(name)[0] / "training.json")
        said = f"{name} {canvas.short(FLOPS * about['parameters'] * about['tokens'])}FLOPs"
        seconds = climb.time(name)
        told.append(said if seconds is None else f"{said} in {seconds:.0f} s")
    return (
        f"Cost of one training, about {FLOPS} FLOPs a parameter and token; seconds are those it "
        f"worked, without trials, beside whatever else the machine did: {', '.join(told)}."
        + _tuned(climb, names)
    )


def _tuned(climb: Climb, names: Sequence[str]) -> str:
    """Which learning rates were tried, and which was best."""
    told = []
    for name in names:
        tried = read_json(climb.models(name)[0] / "rates.json")
        if tried:
            told.append(f"{name} {_best(tried)} of {_rates(tried)}")
    return f" Learning rates, the best of those tried: {'; '.join(told)}." if told else ""


def _best(tried: Sequence[Mapping[str, Any]]) -> str:
    return next(f"{trial['learning_rate']:g}" for trial in tried if trial["chosen"])


def _rates(tried: Sequence[Mapping[str, Any]]) -> str:
    """`0.002 (5.31), 0.004 (5.12)`: the loss that each came to in brackets."""
    losses = [trial["validation_loss"] for trial in tried]
    shown = ["diverged" if loss is None else f"{loss:.3f}" for loss in losses]
    pairs = zip(tried, shown, strict=True)
    return ", ".join(f"{trial['learning_rate']:g} ({loss})" for trial, loss in pairs)
