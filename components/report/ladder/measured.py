"""What rungs measured, over their seeds: read once for tables and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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


def cost(trained: Mapping[str, Sequence[Path]]) -> str:
    """What one training of each rung takes, in words. trained: folders of models, one a seed."""
    told = {name: read_json(found[0] / "training.json") for name, found in trained.items()}
    operations = [FLOPS * about["parameters"] * about["tokens"] for about in told.values()]
    each = ", ".join(f"{name} {n:.2g}" for name, n in zip(told, operations, strict=True))
    return f"Cost of one training, about {FLOPS} FLOPs a parameter and token: {each} FLOPs."
