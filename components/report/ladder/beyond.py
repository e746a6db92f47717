"""The last page: what changes with size, and what only seems to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.ladder.climb import Climb
from components.lineage import read_json
from components.report import canvas
from components.report.ladder.measured import cost, count, curve, figures, shown
from components.report.ladder.page import Page, Picture, Table
from components.report.ladder.seeds import over_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST = 4  # sizes of a law with three constants
HEIGHT = 3.6  # inches


def swept(climb: Climb) -> list[str]:
    """Decoders of enough sizes that read one corpus as the same tokens: the first that do."""
    alike: dict[tuple[str, str], list[str]] = {}
    for name in climb.of("decoder"):
        rung = climb.rungs[name]
        alike.setdefault((rung.corpus, rung.vocabulary), []).append(name)
    for names in alike.values():
        models = [climb.rungs[name].model for name in names]
        if len({(model.layers, model.width) for model in models}) >= FEWEST:
            return names
    return []


def page(climb: Climb) -> Page | None:
    """None where no corpus is read by enough sizes."""
    names = sorted(swept(climb), key=lambda name: _parameters(climb, name))
    if not names:
        return None
    corpus = climb.rungs[names[0]].corpus
    sizes = [_parameters(climb, name) for name in names]
    trained = climb.trained("decoder")
    last = np.array([_last(trained[name]) for name in names])  # (sizes, 3)
    law = fitted(np.array(sizes), last[:, 0])
    spread = " Lines through the points are the range over seeds." if climb.seeds > 1 else ""
    pictures = [
        Picture(
            "scaling_tokens",
            _over_tokens({name: trained[name] for name in names}, sizes),
            "The darker, the larger. Each line is one training.",
        ),
        Picture(
            "scaling_law",
            _over_sizes(sizes, last, law),
            f"Below: what the law leaves over, in nats.{spread}",
        ),
    ]
    solved = {name: climb.measures(name) for name in names}
    abilities = all((folders[0] / "arithmetic.json").is_file() for folders in solved.values())
    if abilities:
        pictures.append(
            Picture(
                "emergence",
                _emergence(solved, sizes),
                "The same answers, by two metrics. Exact match wants every token right and counts "
                "nothing before; -log p of an answer, lower where it is more probable, counts what "
                "is nearly right too. An ability that leaps on the left, after -log p had begun to "
                "fall on the right, has not appeared at once (Schaeffer et al. 2023).",
            )
        )
    return Page(
        title="Beyond: size",
        what="The same decoder in several sizes, on the same text. Its loss falls as a power of "
        "its size (Kaplan et al. 2020, Hoffmann et al. 2022), and abilities seem to appear from "
        "some size on (Wei et al. 2022).",
        finding=_finding(law, corpus, len(names)),
        pictures=pictures,
        tables=[_table(climb, names, abilities)],
        cost=cost(climb, names),
    )


def _parameters(climb: Climb, name: str) -> int:
    return int(read_json(climb.models(name)[0] / "training.json")["parameters"])


def _last(folders: Sequence[Path]) -> tuple[float, float, float]:
    """The last validation loss: over seeds the mean, the lowest and the highest."""
    _, means, (lows, highs) = curve(folders, "validation_loss")
    return means[-1], lows[-1], highs[-1]


def fitted(sizes: np.ndarray, losses: np.ndarray) -> dict[str, Any]:
    """loss = floor + scale x size ^ -power, by least squares with none of the three below zero.

    sizes, losses: shape (sizes,). Returns the constants, `residuals` in nats, shape (sizes,), and
    `sound`: whether the fit found all three within their bounds. No floor lies above the lowest
    loss, so one that ends there was stopped, not found. The law is Hoffmann et al. 2022, equation
    2, at one amount of data.
    """
    from scipy.optimize import curve_fit

    def law(size: np.ndarray, floor: float, scale: float, power: float) -> np.ndarray:
        return floor + scale * (size / sizes[0]) ** -power

    floor = max(0.0, losses.min() * 0.8)
    start = (floor, losses.max() - floor, 0.5)
    bounds = ([0, 0, 0], [losses.min(), np.inf, 4])
    (floor, scale, power), _ = curve_fit(law, sizes, losses, start, bounds=bounds, maxfev=20_000)
    residuals = losses - law(sizes, floor, scale, power)
    return {
        "floor": float(floor),
        "scale": float(scale),
        "power": float(power),
        "residuals": [float(value) for value in residuals],
        "sound": bool(1e-3 < power < 3.9 and 1e-3 < floor < losses.min() * (1 - 1e-3)),
    }


def _finding(law: Mapping[str, Any], corpus: str, sizes: int) -> str:
    worst = max(abs(value) for value in law["residuals"])
    said = f"Over {sizes} sizes on {corpus} the last validation loss is {law['floor']:.3f} + "
    said += f"{law['scale']:.3f} x (N / smallest) ^ -{law['power']:.2f} nats a token, to within "
    said += f"{worst:.3f}."
    if not law["sound"]:
        said += " A constant stands at its bound, so these sizes do not determine the law."
    return said


def _shades(number: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["Blues"](0.35 + 0.6 * place / max(1, number - 1)) for place in range(number)]


def _over_tokens(trained: Mapping[str, Sequence[Path]], sizes: Sequence[int]) -> "Figure":
    figure, axes = canvas.figure_with_axes("Loss over tokens read, by size", HEIGHT)
    for color, (_, folders), size in zip(_shades(len(sizes)), trained.items(), sizes, strict=True):
        tokens, means, _ = curve(folders, "validation_loss")
        axes.plot(tokens, means, color=color, label=canvas.short(size))
    axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel="validation loss, nats a token")
    axes.set_xticks(tokens, [canvas.short(read) for read in tokens])
    axes.minorticks_off()
    _plain_numbers(axes)
    figure.legend(loc="outside lower center", ncols=4, title="parameters")
    return figure


def _plain_numbers(axes: "Axes") -> None:
    """Numbers as they are on a logarithmic axis that spans less than a decade or two."""
    from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_locator(NullLocator())


def _over_sizes(sizes: Sequence[int], last: np.ndarray, law: Mapping[str, Any]) -> "Figure":
    """last: of `_last`, (sizes, 3)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(canvas.WIDTH, HEIGHT + 1.2))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    along = np.geomspace(sizes[0], sizes[-1], 100)
    fit = law["floor"] + law["scale"] * (along / sizes[0]) ** -law["power"]
    above.plot(along, fit, color=canvas.GREY, label="fitted law")
    above.plot(sizes, last[:, 0], "o", color=canvas.BLUE, label="measured")
    above.vlines(sizes, last[:, 1], last[:, 2], color=canvas.BLUE, linewidth=1.2)
    above.set(xscale="log", yscale="log", ylabel="validation loss,\nnats a token")
    above.set_title("Loss over parameters")
    _plain_numbers(above)
    above.legend()
    below.axhline(0, color=canvas.GREY, linewidth=0.8)
    below.plot(sizes, law["residuals"], "o", color=canvas.BLUE)
    below.vlines(sizes, *(last[:, 1:].T + law["residuals"] - last[:, 0]), color=canvas.BLUE)
    below.set(xlabel="parameters", ylabel="residual")
    below.margins(y=0.2)
    below.set_xticks(sizes, [canvas.short(size) for size in sizes])
    below.minorticks_off()
    return figure


def _emergence(solved: Mapping[str, Sequence[Path]], sizes: Sequence[int]) -> "Figure":
    """Exact match and -log p of answers, by number of steps, over sizes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(canvas.WIDTH, HEIGHT))
    left, right = figure.subplots(1, 2)
    told = {
        name: [read_json(f / "arithmetic.json") for f in found] for name, found in solved.items()
    }
    steps = list(next(iter(told.values()))[0]["by_steps"])
    for color, step in zip(canvas.SERIES, steps, strict=False):
        groups = [[one["by_steps"][step] for one in told[name]] for name in solved]
        for axes, metric in ((left, "exact_match"), (right, "nats")):
            found = [over_seeds([group[metric] for group in seeds]) for seeds in groups]
            lows, highs = zip(*(one["interval"] for one in found), strict=True)
            axes.plot(sizes, [one["score"] for one in found], "o-", color=color, label=step)
            axes.fill_between(sizes, lows, highs, color=color, alpha=0.12, linewidth=0)
    left.set_ylim(-0.02, 1.02)  # Student's intervals do not know that a share ends there
    for axes, title in ((left, "Exact match"), (right, "-log p of the answer, nats")):
        axes.set_title(title)
        axes.set(xscale="log", xlabel="parameters")
        axes.set_xticks(sizes, [canvas.short(size) for size in sizes], rotation=45, fontsize=8)
        axes.minorticks_off()
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, title="steps of the sum")
    return figure


def _table(climb: Climb, names: Sequence[str], abilities: bool) -> Table:
    rows = []
    for name in names:
        measured = climb.measures(name)
        cells = [name, count(measured, "parameters"), count(measured, "tokens")]
        cells.append(shown(figures(measured, "bits_per_byte")))
        if abilities:
            answers = [read_json(folder / "arithmetic.json")["all"] for folder in measured]
            cells += [shown(over_seeds([a[key] for a in answers])) for key in ABILITIES]
        rows.append(cells)
    head = ["rung", "parameters", "tokens read", "bits per byte"]
    return Table([*head, *(ABILITIES.values() if abilities else ())], rows)


ABILITIES = {"exact_match": "sums right", "nats": "nats of an answer"}
