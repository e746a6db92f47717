"""The page of integer codes and one-hot vectors: what is wrong with both."""

from typing import TYPE_CHECKING, Any

from components.ladder.climb import Climb
from components.lineage import read_json
from components.report import canvas
from components.report.ladder.page import Page, Picture, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 5  # words whose codes are looked at


def page(climb: Climb) -> Page | None:
    """None where the ladder has no such rung. There is nothing to repeat: the first seed's."""
    measured = climb.measured("one_hot")
    if not measured:
        return None
    told = read_json(next(iter(measured.values()))[0] / "metrics.json")
    words, times = told["dimensions"], told["dense_bytes"] / told["code_bytes"]
    return Page(
        title="Integer codes and one-hot vectors",
        what="A model needs numbers, and the simplest number of a word is its place in the "
        "vocabulary. A one-hot vector has as many places as there are words, a 1 in the place of "
        "its word and 0 in all others.",
        finding=f"Codes claim an order and distances that words do not have. One-hot vectors claim "
        f"nothing: any two of the {words:,} words are {told['distance']:.3f} apart, with a cosine "
        f"of {told['cosine']:g}, and they take {times:,.0f} times the room, {told['sparsity']:.3%} "
        "of it zeros.",
        pictures=_pictures(told["codes"]),
        tables=[_neighbours(told), _sizes(told)],
        cost="Cost: the words are counted once; nothing is trained.",
        following="Which words are like king? Neither encoding can say. Vectors that are learned "
        "from the words around can.",
    )


def _pictures(codes: dict[str, int]) -> list[Picture]:
    """None where the text has none of the words that are asked about."""
    if not codes:
        return []
    return [
        Picture(
            "codes",
            _codes(codes),
            "Codes are given by frequency, so the nearest code is that of a word about as "
            "frequent, whatever it means.",
        ),
        Picture(
            "one_hot",
            _one_hot(list(codes)[:SHOWN]),
            "The same words as one-hot vectors; the places of all other words are left out.",
        ),
    ]


def _neighbours(told: dict[str, Any]) -> Table:
    rows = [
        (
            word,
            f"{code:,}",
            ", ".join(other for other, _ in told["nearest_codes"][word][:SHOWN]),
            f"all {told['dimensions'] - 1:,} others alike",
        )
        for word, code in told["codes"].items()
    ]
    head = ("word", "code", "nearest by code", "nearest by one-hot vector")
    return Table(head, rows, "The question that each later rung answers too: what is near a word?")


def _sizes(told: dict[str, Any]) -> Table:
    words, tokens = told["dimensions"], told["tokens"]
    rows = [
        ("integer codes", "1", _bytes(told["code_bytes"])),
        ("one-hot vectors", f"{words:,}", _bytes(told["dense_bytes"])),
    ]
    head = ("the text as", "numbers a word", f"{canvas.short(tokens)} words take")
    return Table(head, rows, "At 4 bytes a number, all zeros written out.")


def _bytes(size: float) -> str:
    return f"{canvas.short(size)}B"


def _codes(codes: dict[str, int]) -> "Figure":
    figure, axes = canvas.figure_with_axes("Words as places in the vocabulary", 2.1)
    axes.set_xscale("symlog", linthresh=10)
    axes.xaxis.set_major_formatter(canvas.short)
    axes.set(xlabel="code: 0 is the most frequent word", yticks=[], ylim=(-1, 3))
    axes.set_xlim(-1, 1.6 * max(codes.values()))
    axes.spines["left"].set_visible(False)
    axes.scatter(list(codes.values()), [0] * len(codes), color=canvas.BLUE, zorder=3)
    for number, (word, code) in enumerate(sorted(codes.items(), key=lambda pair: pair[1])):
        height = 10 + 16 * (number % 3)
        axes.annotate(
            word,
            (code, 0),
            (0, height),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "color": canvas.GRID},
        )
    return figure


def _one_hot(words: list[str]) -> "Figure":
    figure, axes = canvas.figure_with_axes("Words as one-hot vectors", 2.6)
    size = len(words)
    grid = [[float(row == column) for column in range(size)] for row in range(size)]
    axes.imshow(grid, cmap="Blues", vmax=1.4, aspect="auto")
    axes.set_xticks(range(size), [f"place of\n{word}" for word in words])
    axes.set_yticks(range(size), words)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for row in range(size):
        for column in range(size):
            one = row == column
            colour = "white" if one else canvas.INK
            axes.text(column, row, str(int(one)), ha="center", va="center", color=colour)
    return figure
