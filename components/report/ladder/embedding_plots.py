"""Pictures of word vectors: scores side by side, and words in the plane."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from components.report import canvas, labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DODGE = 0.22  # rows that the rungs of a row are apart


def points(
    found: Mapping[str, Mapping[str, Mapping[str, Any] | None]], title: str, label: str
) -> "Figure":
    """A row for each thing judged, in it a point with its interval for each rung.

    found: by rung, by row: `score` and `interval`, or None where it could not be asked.
    """
    names = list(next(iter(found.values())))
    figure, axes = canvas.figure_with_axes(title, 1.3 + canvas.ROW * len(names))
    middle = (len(found) - 1) / 2
    for number, (rung, by_row) in enumerate(found.items()):
        known = [(row, by_row[name]) for row, name in enumerate(names) if by_row[name]]
        scores = [one["score"] for _, one in known]
        ends = [one["interval"] for _, one in known]
        axes.errorbar(
            scores,
            [row + DODGE * (number - middle) for row, _ in known],
            xerr=[
                [max(0.0, score - low) for score, (low, _) in zip(scores, ends, strict=True)],
                [max(0.0, high - score) for score, (_, high) in zip(scores, ends, strict=True)],
            ],
            fmt="o",
            markersize=5,
            elinewidth=1.2,
            color=canvas.SERIES[number % len(canvas.SERIES)],
            label=rung,
        )
    canvas.rows(axes, names)
    axes.set_xlabel(label)
    figure.legend(loc="outside lower center", ncols=min(len(found), 4))
    return figure


def plane(name: str, found: Mapping[str, Any]) -> "Figure":
    """Words in the plane, coloured by group. found: `words` with `word`, `group`, `x`, `y`."""
    figure, axes = canvas.figure_with_axes(f"{name}: words in the plane", 5.4)
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for point in found["words"]:
        groups.setdefault(point["group"], []).append(point)
    for colour, (group, members) in zip(canvas.SERIES, groups.items(), strict=False):
        across, up = [p["x"] for p in members], [p["y"] for p in members]
        axes.scatter(across, up, color=colour, s=18, label=group, zorder=3)
    for pair in found["pairs"]:
        ends = [found["words"][number] for number in pair]
        axes.plot([p["x"] for p in ends], [p["y"] for p in ends], color=canvas.GREY, linewidth=0.8)
    axes.set(xlabel="first component", ylabel="second component")
    figure.legend(loc="outside lower center", ncols=3)
    axes.margins(0.08)
    words = [point["word"] for point in found["words"]]
    labels.beside(axes, words, np.array([(p["x"], p["y"]) for p in found["words"]]))
    return figure
