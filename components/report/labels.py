"""Words beside points of a picture, none over another."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from components.report import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 8.5  # points of a letter's height
LETTER = 0.62  # of it a letter is wide, about
REACHES = (6, 13, 21, 30, 40, 52, 66)  # points from a point to its word
DIRECTIONS = np.radians([35, 0, -35, 145, 180, 215, 90, 270, 60, 120, -60, 240])
AFAR = 10  # points from which on a line leads to the word

Box = tuple[float, float, float, float]  # left, bottom, right, top


def beside(
    axes: "Axes", words: Sequence[str], points: np.ndarray, colours: Sequence[str] | None = None
) -> None:
    """Write each word near its point, as near as leaves room for the others.

    points: (words, 2), in the axes' own units, which must not change afterwards.
    """
    axes.figure.draw_without_rendering()  # so that the layout is known
    pixels = axes.figure.dpi / 72  # of a printer's point
    places = axes.transData.transform(np.asarray(points, float)) / pixels  # (words, 2), in points
    frame = tuple(np.array(axes.get_window_extent().extents) / pixels)
    taken: list[Box] = [(x - 2, y - 2, x + 2, y + 2) for x, y in places]
    for number, (word, place) in enumerate(zip(words, places, strict=True)):
        offset, box = min(_tried(word, place), key=lambda one: _cost(one[1], taken, frame))
        taken.append(box)
        far = float(np.hypot(*offset)) > AFAR
        line = {"arrowstyle": "-", "color": canvas.GREY, "linewidth": 0.5, "shrinkA": 0}
        axes.annotate(
            word,
            points[number],
            offset,
            textcoords="offset points",
            fontsize=SIZE,
            color=colours[number] if colours else canvas.INK,
            ha="left" if offset[0] > 1 else "right" if offset[0] < -1 else "center",
            va="center",
            arrowprops=line if far else None,
        ).set_in_layout(False)


def _tried(word: str, place: np.ndarray) -> Iterator[tuple[tuple[float, float], Box]]:
    """Where `word` could stand: the offset from its point, and the box that it fills; nearest
    first.
    """
    width = SIZE * LETTER * len(word)
    for reach in REACHES:
        for direction in DIRECTIONS:
            across, up = reach * np.cos(direction), reach * np.sin(direction)
            across = 0.0 if abs(across) <= 1 else across
            left = across + place[0] - (0 if across > 0 else width if across < 0 else width / 2)
            middle = up + place[1]
            box = (left, middle - SIZE / 2, left + width, middle + SIZE / 2)
            yield (across, up), box


def _cost(box: Box, taken: Sequence[Box], frame: Box) -> float:
    """The area of `box` that covers others, or leaves the frame, where it weighs more."""
    inside = _common(box, frame)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return sum(_common(box, other) for other in taken) + 2 * (area - inside)


def _common(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, across) * max(0.0, up)
