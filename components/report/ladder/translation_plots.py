"""Pictures of models that translate: BLEU over length, alignments, vectors, positions, heads."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.report import canvas

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DODGE = 0.18  # words that a line is moved by, so that intervals do not cover each other
CELL = 0.34  # inches of a word in a heat map
HEAD_CELL = (0.95, 0.3)  # inches of a head's share
DARK = 0.55  # above it, numbers in a cell are white
CENTRED = {"ha": "center", "va": "center", "fontsize": 8.5}
ROLES = ("previous", "next", "rarest")  # shown first; then relations
CLOSE = 0.03  # of the largest distance: points whose numbers would cover each other
POSITIONS = 40  # rows of the position encoding that are shown


def bleu_over_length(corpus: str, lines: Mapping[str, Sequence[Mapping[str, Any]]]) -> "Figure":
    """lines: by rung, points with `words`, `score` and `interval`, scores between 0 and 1."""
    figure, axes = canvas.figure_with_axes(f"BLEU over the length of the source: {corpus}", 3.6)
    middle = (len(lines) - 1) / 2
    for number, (name, points) in enumerate(lines.items()):
        scores = [100 * point["score"] for point in points]
        ends = [[100 * end for end in point["interval"]] for point in points]
        axes.errorbar(
            [point["words"] + DODGE * (number - middle) for point in points],
            scores,
            [
                [max(0.0, score - low) for score, (low, _) in zip(scores, ends, strict=True)],
                [max(0.0, high - score) for score, (_, high) in zip(scores, ends, strict=True)],
            ],
            color=canvas.SERIES[number % len(canvas.SERIES)],
            marker="o",
            markersize=5,
            linewidth=1.8,
            elinewidth=1,
            capsize=2,
            label=name,
        )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="words of the source (mean of a bucket)", ylabel="BLEU", ylim=(0, None))
    figure.legend(loc="outside lower center", ncols=min(len(lines), 3))
    return figure


def alignment(name: str, found: Mapping[str, Any]) -> "Figure":
    """Weights of source words (columns) as each target word (row) was written."""
    source, target = ([_plain(word) for word in found[side]] for side in ("source", "target"))
    figure, axes = canvas.figure_with_axes(
        name, 1.5 + CELL * len(target), min(canvas.WIDTH, 2.2 + CELL * len(source))
    )
    axes.imshow(found["weights"], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(source)), source, rotation=55, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(target)), target)
    _bare(axes)
    return figure


def projection(name: str, found: Mapping[str, Any]) -> "Figure":
    """The sentences' vectors on two components, numbered as they are listed, coloured by who acts.

    Sutskever et al. 2014, figure 2.
    """
    one, two = found["explained"]
    title = f"{name}: vectors of the same words in other orders"
    figure, axes = canvas.figure_with_axes(title, 3.4)
    actors = list(dict.fromkeys(sentence["acts"] for sentence in found["sentences"]))
    for actor, colour in zip(actors, canvas.SERIES, strict=False):
        own = [s["point"] for s in found["sentences"] if s["acts"] == actor]
        axes.scatter(*zip(*own, strict=True), color=colour, s=42, label=f"the {actor} acts")
    for numbers, point in _together([s["point"] for s in found["sentences"]]):
        canvas.note(axes, ", ".join(map(str, numbers)), point, (5, 4))
    axes.set(xlabel=f"component 1 ({one:.0%} of the variance)", ylabel=f"component 2 ({two:.0%})")
    axes.margins(0.15)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _together(points: Sequence[Sequence[float]]) -> list[tuple[list[int], tuple[float, float]]]:
    """Numbers of points from 1 on, in one label where they all but coincide, and its place."""
    across = max(max(line) - min(line) for line in zip(*points, strict=True))
    labels: list[tuple[list[int], tuple[float, float]]] = []
    for number, (x, y) in enumerate(points, 1):
        near = (held for held, at in labels if math.dist(at, (x, y)) < CLOSE * across)
        if (held := next(near, None)) is None:
            labels.append(([number], (x, y)))
        else:
            held.append(number)
    return labels


def positions(encoding: "np.ndarray") -> "Figure":
    """The position encoding, (positions, width): sines and cosines of falling frequency."""
    figure, axes = canvas.figure_with_axes("Position encoding", 3.2)
    shown = encoding[:POSITIONS]
    image = axes.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    figure.colorbar(image, ax=axes, shrink=0.8)
    axes.set(xlabel="dimension (even: sine, odd: cosine)", ylabel="position")
    axes.grid(visible=False)
    return figure


def heads(name: str, found: Mapping[str, Any]) -> "Figure":
    """How often each head looks where a role would, beside a head that looks anywhere."""
    layers = len(found["confidence"])
    count = len(found["confidence"][0])
    names = [f"layer {n // count + 1}, head {n % count + 1}" for n in range(layers * count)]
    relations = [role for role in found["shares"] if role not in ROLES]
    roles = [*(role for role in ROLES if role in found["shares"]), *relations]
    table = [
        [found["shares"][role][n // count][n % count] for role in roles] for n in range(len(names))
    ]
    table.append([found["chance"][role] for role in roles])
    figure, axes = canvas.figure_with_axes(
        f"{name}: where heads look",
        1.6 + HEAD_CELL[1] * len(table),
        min(canvas.WIDTH, 1.8 + HEAD_CELL[0] * len(roles)),
    )
    axes.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, shares in enumerate(table):
        for column, share in enumerate(shares):
            colour = "white" if share > DARK else canvas.INK
            axes.text(column, row, f"{share:.0%}", color=colour, **CENTRED)
    wrapped = [role.replace(" to ", "\nto ") for role in roles]
    axes.set_xticks(range(len(roles)), wrapped)
    axes.set_yticks(range(len(table)), [*names, "anywhere (chance)"])
    _bare(axes)
    return figure


def _plain(word: str) -> str:
    """A dollar sign would begin a formula."""
    return word.replace("$", r"\$")


def _bare(axes: "Axes") -> None:
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
