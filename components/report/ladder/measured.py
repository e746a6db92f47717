"""What rungs measured, over their seeds: read once for tables and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.ladder.climb import Climb
from components.lineage import read_json
from components.report.ladder.seeds import over_seeds

UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def figures(folders: Sequence[Path], name: str) -> dict[str, Any]:
    """The figure `name` of `metrics.json`: its score and interval."""
    return over_seeds([read_json(folder / "metrics.json")[name] for folder in folders])


def shown(figure: Mapping[str, Any], form: str = "%.3f") -> str:
    """`0.712 [0.690, 0.733]`."""
    low, high = figure["interval"]
    return f"{form % figure['score']} [{form % low}, {form % high}]"


def has(folders: Sequence[Path], name: str) -> bool:
    return name in read_json(folders[0] / "metrics.json")


def count(folders: Sequence[Path], name: str) -> str:
    """A number of things, such as parameters, in short."""
    return short(read_json(folders[0] / "metrics.json")[name])


def short(value: float) -> str:
    """`12.3 M`."""
    for size, letter in UNITS:
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:,}"


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


def language_models(climb: Climb) -> list[str]:
    return climb.of("ngram", "rnn", "lstm", "decoder")
