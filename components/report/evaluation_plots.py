"""The pictures of one adapter's evaluation: what it takes for what, and whether it knows."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.lineage import read_json
from components.report import canvas, steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERED_LABELS = 16  # a larger confusion matrix has no room for numbers
LARGEST_POINT = 200.0  # square points, of a bin that holds all rows


def of_evaluation(folder: Path) -> dict[str, "Figure"]:
    """`confusion` and `reliability` of an evaluation; where answers are free text, the score by
    `steps`, if its examples have some.
    """
    path = folder / "metrics.json"
    figures = read_json(path) if path.is_file() else {}
    if not figures.get("confusion", {}).get("labels"):
        return steps.of_evaluation(folder.name, figures)
    drawn = {"confusion": _confusion(folder.name, figures)}
    return drawn | {"reliability": _reliability(folder.name, figures)}


def _confusion(name: str, figures: Mapping[str, Any]) -> "Figure":
    """The confusion of labels, counts and shares of the true label written into the cells."""
    labels, matrix = figures["confusion"]["labels"], figures["confusion"]["matrix"]
    shares = [[count / max(sum(row), 1) for count in row] for row in matrix]
    side = min(1.6 + 0.8 * len(labels), 9.0)
    title = f"{name}\n{figures['metric']} {figures['score']:.3f}"
    figure, axes = canvas.figure_with_axes(title, side, side + 0.5)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.3)  # beyond 1: a blue, not a black
    axes.set_xticks(range(len(labels)), labels, rotation=0 if len(labels) < 5 else 90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for row, counts in enumerate(matrix if len(labels) <= NUMBERED_LABELS else []):
        for column, count in enumerate(counts):
            share = shares[row][column]
            style = {
                "ha": "center",
                "va": "center",
                "color": "white" if share > 0.6 else canvas.INK,
            }
            axes.text(column, row, f"{count:,}\n{share:.0%}", fontsize=9, **style)
    return figure


def _reliability(name: str, figures: Mapping[str, Any]) -> "Figure":
    """Accuracy over confidence by bin, beside the line of those who know what they know.

    Guo et al. 2017, figure 1. A point stands at its bin's means and is as large as its share of
    the rows.
    """
    bins, size = figures["calibration"]["bins"], len(figures["calibration"]["bins"])
    used = [(number, one) for number, one in enumerate(bins) if one["count"]]
    total = sum(one["count"] for one in bins)
    title = f"{name}\nECE {figures['calibration']['ece']:.3f}"
    figure, axes = canvas.figure_with_axes(title, 2.7, 2.75)
    middles = [(number + 0.5) / size for number, _ in used]
    heights = [one["accuracy"] for _, one in used]
    axes.bar(middles, heights, 0.94 / size, color=canvas.BLUE, alpha=0.22)
    axes.plot([0, 1], [0, 1], color=canvas.GREY, linewidth=1.1, linestyle="--")
    axes.scatter(
        [one["confidence"] for _, one in used],
        heights,
        [max(LARGEST_POINT * one["count"] / total, 8) for _, one in used],
        color=canvas.BLUE,
        edgecolors="white",
        linewidths=0.8,
        zorder=3,
    )
    least = int(size / len(figures["confusion"]["labels"])) / size  # no prediction is less sure
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(least, 1.02), ylim=(0, 1.04))
    return figure
