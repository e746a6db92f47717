"""The pictures of the rungs that say what comes next."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.ladder import senses
from components.lineage import read_json
from components.report import canvas, labels
from components.report.ladder.measured import curve, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 3.6  # inches
ONE_VECTOR = "one_vector.json"
LEAST = 1e-6  # of a logarithmic axis: less is nothing


def losses(trained: Mapping[str, Sequence[Path]]) -> "Figure":
    """Validation loss over tokens read, the range over seeds shaded."""
    figure, axes = canvas.figure_with_axes("Validation loss over what was read", HEIGHT)
    for color, (name, folders) in zip(canvas.SERIES, trained.items(), strict=False):
        tokens, means, (lows, highs) = curve(folders, "validation_loss")
        axes.plot(tokens, means, "o-", color=color, label=name, markersize=3)
        axes.fill_between(tokens, lows, highs, color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel="tokens", ylabel="nats a token")
    axes.xaxis.set_major_formatter(canvas.short)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def over_distance(
    measured: Mapping[str, Sequence[Path]], key: str, title: str, label: str
) -> "Figure":
    """A figure of `reach.json` over the distance in tokens, both on logarithmic axes."""
    figure, axes = canvas.figure_with_axes(title, HEIGHT)
    for color, (name, folders) in zip(canvas.SERIES, measured.items(), strict=False):
        distances = read_json(folders[0] / "reach.json")["distances"]
        _band(axes, distances, series(folders, "reach.json", key), color, name)
    axes.set(xscale="log", yscale="log", xlabel="tokens back", ylabel=label)
    axes.set_xticks(distances, [str(distance) for distance in distances])
    axes.minorticks_off()
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _band(
    axes: "Axes", across: Sequence[float], found: Sequence[Mapping], color: str, name: str
) -> None:
    """A line with its interval; it ends where there is nothing left."""
    kept = [(x, one) for x, one in zip(across, found, strict=True) if one["score"] > LEAST]
    places = [x for x, _ in kept]
    axes.plot(places, [f["score"] for _, f in kept], "o-", color=color, label=name, markersize=3)
    lows = [max(f["interval"][0], LEAST) for _, f in kept]
    highs = [max(f["interval"][1], LEAST) for _, f in kept]
    axes.fill_between(places, lows, highs, color=color, alpha=0.15, linewidth=0)


def scores(figures: Mapping[str, Mapping[str, Any]], title: str, label: str) -> "Figure":
    """A point with its interval for each name."""
    figure, axes = canvas.figure_with_axes(title, canvas.ROW * len(figures) + 1.1)
    canvas.rows(axes, list(figures))
    for place, told in enumerate(figures.values()):
        axes.plot(told["interval"], [place, place], color=canvas.BLUE, linewidth=2, alpha=0.5)
        axes.plot(told["score"], place, "o", color=canvas.BLUE)
        low, high = told["interval"]
        canvas.beside(axes, place, f"{told['score']:.4g}  [{low:.4g}, {high:.4g}]")
    axes.set_xlabel(label)
    return figure


def planes(folders: Mapping[str, Path], word: str) -> "Figure":
    """The vectors of a word in sentences, by its meaning, one plane a model; of a model that has
    one vector for the word, this among words of both meanings.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(canvas.WIDTH, 3.2 * -(-len(folders) // 2)))
    grid = list(figure.subplots(-(-len(folders) // 2), 2, squeeze=False).flat)
    alone = []
    for axes, (name, folder) in zip(grid, folders.items(), strict=False):
        if (folder / ONE_VECTOR).is_file():
            alone.append((axes, read_json(folder / ONE_VECTOR)))
            _one_vector(*alone[-1], word, name)
        else:
            _plane(axes, read_json(folder / "senses.json"), name)
    for axes in grid[len(folders) :]:
        axes.set_visible(False)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    figure.suptitle(f"'{word}' in sentences", color=canvas.INK, fontsize=11, weight="bold")
    for axes, found in alone:
        _name_words(axes, found)
    return figure


def _plane(axes: "Axes", judged: Mapping[str, Any], name: str) -> None:
    """Filled where the meaning is decided on the left of the word, hollow where on the right."""
    for color, sense in zip((canvas.BLUE, canvas.ORANGE), senses.SENSES, strict=True):
        for side, fill in ((senses.LEFT, color), (senses.RIGHT, "none")):
            own = [s for s in judged["sentences"] if (s["sense"], s["side"]) == (sense, side)]
            if own:
                across, up = zip(*(s["point"] for s in own), strict=True)
                label = f"{sense}, decided on the {side}"
                axes.scatter(
                    across, up, s=16, facecolor=fill, edgecolor=color, label=label, alpha=0.8
                )
    told = ", ".join(f"{side} {found['score']:.0%}" for side, found in judged["told"].items())
    axes.set_title(f"{name}: {told}", fontsize=10)
    axes.set(xticks=[], yticks=[])


def _one_vector(axes: "Axes", found: Mapping[str, Any], word: str, name: str) -> None:
    """Words around the two meanings in their colours, and the word itself, a star, among them."""
    colours = dict(zip(senses.SENSES, (canvas.BLUE, canvas.ORANGE), strict=True))
    own = [colours.get(point["group"], canvas.INK) for point in found["words"]]
    for point, colour in zip(found["words"], own, strict=True):
        star = point["word"] == word
        axes.scatter(
            point["x"], point["y"], s=70 if star else 10, marker="*" if star else "o", color=colour
        )
    axes.margins(0.15)
    axes.set_title(f"{name}: one vector", fontsize=10)
    axes.set(xticks=[], yticks=[])


def _name_words(axes: "Axes", found: Mapping[str, Any]) -> None:
    """Write the words of `_one_vector` beside their points, once the layout is known."""
    points = np.array([(point["x"], point["y"]) for point in found["words"]])
    labels.beside(axes, [point["word"] for point in found["words"]], points)
