"""The pictures of a comparison: scores, fronts, sizes, amounts of data, and the searches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.lineage import read_json
from components.report import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
NOTHING = 0.5  # where zero stands on a logarithmic scale of parameters or seconds


def of_comparison(folder: Path) -> dict[str, "Figure"]:
    """The figures of `artifacts/comparisons/NAME/result` by name."""
    path = folder / "comparison.json"
    return draw(read_json(path)) if path.is_file() else {}


def draw(result: Mapping[str, Any]) -> dict[str, "Figure"]:
    """Scores where methods compete once, curves where they do over sizes or amounts of data; where
    they do over both, curves over each for every value of the other.
    """
    rows, metric = result["rows"], result["metric"]
    figures = {}
    bases = {row["pipeline"] for row in rows}
    amounts = {row["examples"] for row in rows}
    if len(bases) == len(amounts) == 1:
        figures["scores"] = _scores(rows, metric)
        figures["fronts"] = _fronts(rows, metric)
    if len(bases) > 1:
        for said, own in _by(rows, "examples"):
            title = "Score over parameters of the base" + (said and f": {said} training rows")
            figure = _curves(own, "base_parameters", "parameters of the base", metric, title)
            figures["sizes" + (said and f"_{said}")] = figure
    if len(amounts) > 1:
        counted = [{**row, "examples": row["examples"] or result["train_rows"]} for row in rows]
        for said, own in _by(counted, "pipeline"):
            title = "Score over training examples" + (said and f": base {said}")
            figure = _curves(own, "examples", "training examples", metric, title)
            figures["examples" + (said and f"_{said}")] = figure
    return figures


def _by(rows: Rows, key: str) -> Iterator[tuple[str, Rows]]:
    """The rows of each value of `key`, and what to call them: nothing where there is one value."""
    values = dict.fromkeys(row[key] for row in rows)
    for value in values:
        said = str(value or "all") if len(values) > 1 else ""
        yield said, [row for row in rows if row[key] == value]


def of_search(folder: Path) -> dict[str, "Figure"]:
    """What every trial scored, over its learning rate; none where nothing is trained."""
    if not (folder / "search.json").is_file():
        return {}
    from matplotlib.ticker import NullFormatter

    found = read_json(folder / "search.json")
    trials = [trial for trial in found["trials"] if "learning_rate" in trial["settings"]]
    if not trials:
        return {}
    figure, axes = canvas.figure_with_axes(f"Trials of {found['key']}", 3.2)
    ways = dict.fromkeys(_way(trial) for trial in trials)
    colours = dict(zip(ways, canvas.SERIES, strict=False))
    for trial in trials:
        colour = colours.get(_way(trial), canvas.GREY)
        rate = trial["settings"]["learning_rate"]
        if trial["stopped"]:
            axes.plot(
                rate, 0, "x", color=colour, transform=axes.get_xaxis_transform(), clip_on=False
            )
        else:
            axes.plot(rate, trial["score"], "o", color=colour, markersize=6.5)
    best = found["best"]
    ring = {"markersize": 13, "markerfacecolor": "none", "markeredgecolor": canvas.INK}
    axes.plot(best["settings"]["learning_rate"], best["score"], "o", **ring)
    for way, colour in colours.items():
        axes.plot([], [], "o", color=colour, label=way or "score")
    axes.plot([], [], "x", color=canvas.GREY, label="stopped early")
    axes.set(xscale="log", xlabel="learning rate", ylabel="score on validation data")
    axes.xaxis.set_minor_formatter(NullFormatter())  # its labels would run into each other
    figure.legend(loc="outside lower center", ncols=min(4, len(colours) + 1))
    return {"trials": figure}


def _way(trial: Mapping[str, Any]) -> str:
    """The settings of a trial beside its learning rate."""
    others = {k: v for k, v in trial["settings"].items() if k != "learning_rate"}
    return ", ".join(f"{name} {value}" for name, value in others.items())


def _scores(rows: Rows, metric: str) -> "Figure":
    """The mean over seeds with its interval, each seed a small mark."""
    figure, axes = canvas.figure_with_axes("Scores on test data", canvas.ROW * len(rows) + 1.3)
    for place, row in enumerate(rows):
        colour = canvas.BLUE if row["tied_with_best"] else canvas.GREY
        axes.plot(row["interval"], [place, place], color=colour, linewidth=2.4)
        axes.plot(row["score"], place, "o", color=colour, markersize=7)
        seeds = row["seed_scores"]
        axes.plot(seeds, [place + 0.26] * len(seeds), "|", color=colour, markersize=6)
        low, high = row["interval"]
        canvas.beside(axes, place, f"{row['score']:.3f} [{low:.3f}, {high:.3f}]")
    canvas.rows(axes, [row["name"] for row in rows])
    axes.set_xlabel(f"{metric}; line: 95 % interval; ticks: single seeds")
    axes.margins(x=0.06)
    return figure


def _fronts(rows: Rows, metric: str) -> "Figure":
    """Score against what is trained and what it takes; the front is drawn through."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(canvas.WIDTH, 3.6))
    panels = figure.subplots(1, 2, sharey=True)
    axes_of = (("trainable_parameters", "parameters trained"), ("train_seconds", "training, s"))
    for axes, (key, label) in zip(panels, axes_of, strict=True):
        front = sorted((row for row in rows if row[f"on_front_of_{key}"]), key=lambda r: r[key])
        places = [max(row[key], NOTHING) for row in front]
        axes.plot(places, [row["score"] for row in front], color=canvas.GREY, linewidth=1)
        for row, colour in zip(rows, canvas.SERIES * 2, strict=False):
            place = max(row[key], NOTHING)
            axes.plot([place, place], row["interval"], color=colour, linewidth=1.4, alpha=0.6)
            axes.plot(place, row["score"], "o", color=colour, markersize=7, label=row["name"])
        axes.set(xscale="log", xlabel=f"{label} (left end: none)")
    panels[0].set(ylabel=metric, title="Score against its price")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _curves(rows: Rows, key: str, label: str, metric: str, title: str) -> "Figure":
    """One line for each method over `key`, its interval a band."""
    figure, axes = canvas.figure_with_axes(title, 3.8)
    for name, colour in zip(
        dict.fromkeys(row["name"] for row in rows), canvas.SERIES * 2, strict=False
    ):
        own = sorted((row for row in rows if row["name"] == name), key=lambda row: row[key])
        _curve(axes, own, key, name, colour)
    axes.set(xscale="log", xlabel=label, ylabel=metric)
    _ticks(axes, sorted({row[key] for row in rows}))
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _curve(axes: "Axes", rows: Rows, key: str, name: str, colour: str) -> None:
    places = [row[key] for row in rows]
    lows, highs = zip(*(row["interval"] for row in rows), strict=True)
    axes.fill_between(places, lows, highs, color=colour, alpha=0.15, linewidth=0)
    scores = [row["score"] for row in rows]
    axes.plot(places, scores, "o-", color=colour, markersize=5.5, label=name)


def _ticks(axes: "Axes", places: Iterable[float]) -> None:
    from matplotlib.ticker import NullLocator

    chosen = list(places)
    axes.set_xticks(chosen, [canvas.short(float(f"{place:.2g}"), 0) for place in chosen])
    axes.xaxis.set_minor_locator(NullLocator())
