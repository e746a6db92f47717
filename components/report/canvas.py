"""How every picture looks: colours, sizes, and the marks that several of them share.

Orange is training data, green validation, blue test data; grey is what to compare with.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, GRID = "#243b53", "#829ab1", "#e4e9ee"
BLUE, ORANGE, GREEN = "#2563a8", "#dd7a2b", "#3b9a72"
# for methods side by side
SERIES = [BLUE, ORANGE, GREEN, "#cc79a7", "#56b4e9", "#9a6324", "#6a51a3", "#d4a017"]
SPLITS = {"train": ORANGE, "validation": GREEN, "test": BLUE}
DPI = 120
WIDTH = 7.4  # inches
ROW = 0.4  # inches that a row of a picture takes
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.dpi": DPI,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "text.color": INK,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9,
}


def figure_with_axes(title: str, height: float, width: float = WIDTH) -> tuple["Figure", "Axes"]:
    """height, width: in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot(title=title)


def rows(axes: "Axes", names: Sequence[str]) -> None:
    """Make a row of each name, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def note(axes: "Axes", text: str, point: tuple, offset: tuple, **alignment: str) -> None:
    """`text` at `offset` printer's points from `point`."""
    axes.annotate(text, point, offset, textcoords="offset points", fontsize=8.5, **alignment)


def beside(axes: "Axes", row: int, text: str) -> None:
    """`text` right of the axes."""
    axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9)


def short(value: float, _position: int = 0) -> str:
    """A number in short, such as `2.5 M`; also a formatter of tick labels."""
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:g}"
