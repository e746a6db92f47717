"""The pictures of a stage's result: one function a kind of stage, drawn from its folder alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.lineage import read_json
from components.report import canvas, comparison_plots, steps
from components.report.evaluation_plots import of_evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN_GROUPS = 24  # labels or kinds in one picture, the most frequent first

Figures = dict[str, "Figure"]


def of_stage(kind: str, folder: Path) -> Figures:
    """The figures of a finished stage by name; none for a kind, or a folder, without pictures.

    For the kind `report`, `folder` is the pipeline's own: `artifacts/PIPELINE`.
    """
    draw = DRAWN.get(kind)
    if draw is None:
        return {}
    import matplotlib

    with matplotlib.rc_context(canvas.STYLE):
        return draw(folder)


def of_scores(rows: Sequence[Mapping[str, Any]]) -> Figures:
    """The scores of `rows`, as `read_scores` gives them, in their order."""
    import matplotlib

    with matplotlib.rc_context(canvas.STYLE):
        return _scores(rows) | steps.of_tasks(rows)


def read_scores(pipeline: Path, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """What is known of the adaptations `names` of `artifacts/PIPELINE`, in that order.

    Without names: of all that were judged, those that train least first. Each row has "name",
    "task", "adapter" (adapter.json), "metrics", and "random" and "controls", None where missing.
    """
    judged = sorted(path.parent.name for path in pipeline.glob("evaluations/*/metrics.json"))
    rows = []
    for name in judged if names is None else names:
        adapter = _read(pipeline / "adapters" / name / "adapter.json")
        if not adapter:
            continue  # the base, which is no adaptation
        task = adapter["task"]
        rows.append(
            {
                "name": name,
                "task": task,
                "adapter": adapter,
                "metrics": read_json(pipeline / "evaluations" / name / "metrics.json"),
                "random": _read(pipeline / "controls" / name / "metrics.json"),
                "controls": _read(pipeline.parent / "controls" / task / "metrics.json"),
            }
        )
    if names is None:
        rows.sort(key=lambda row: (row["adapter"]["trainable_parameters"], row["name"]))
    return rows


def _read(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None


def _data(folder: Path) -> Figures:
    counts = (_read(folder / "report.json") or {"splits": {}})["splits"]
    splits = {name: counts[name] for name in canvas.SPLITS if counts.get(name, {}).get("rows")}
    if not splits:
        return {}
    return {"rows": _groups(folder.name, splits), "lengths": _lengths(folder.name, splits)}


def _groups(name: str, splits: Mapping[str, Mapping]) -> "Figure":
    """Rows by label or kind, the splits end to end."""
    totals: dict[str, int] = {}
    for counts in splits.values():
        for group, rows in counts["groups"].items():
            totals[group] = totals.get(group, 0) + rows
    shown = sorted(totals, key=lambda group: (-totals[group], group))[:SHOWN_GROUPS]
    figure, axes = canvas.figure_with_axes(f"Rows of {name}", canvas.ROW * len(shown) + 1.35)
    ends = [0] * len(shown)
    for split, counts in splits.items():
        rows = [counts["groups"].get(group, 0) for group in shown]
        axes.barh(range(len(shown)), rows, 0.62, ends, color=canvas.SPLITS[split], label=split)
        ends = [end + more for end, more in zip(ends, rows, strict=True)]
    canvas.rows(axes, shown)
    for place, end in enumerate(ends):
        canvas.note(axes, f"{end:,}", (end, place), (4, 0), va="center")
    axes.set_xlabel("rows")
    axes.xaxis.set_major_formatter(canvas.short)
    axes.margins(x=0.12)
    figure.legend(loc="outside lower center", ncols=len(splits))
    return figure


def _lengths(name: str, splits: Mapping[str, Mapping]) -> "Figure":
    """The middle nine tenths of the lengths as a bar, all of them as a line, the median a point."""
    figure, axes = canvas.figure_with_axes(
        f"Length of the texts of {name}", canvas.ROW * len(splits) + 1.2
    )
    for place, (split, counts) in enumerate(splits.items()):
        least, low, median, high, most = (
            counts["length_quantiles"][key] for key in ("0", "5", "50", "95", "100")
        )
        colour = canvas.SPLITS[split]
        axes.plot([least, most], [place, place], color=colour, linewidth=1)
        axes.plot([low, high], [place, place], color=colour, linewidth=7, solid_capstyle="butt")
        axes.plot(median, place, "o", color="white", markeredgecolor=canvas.INK, markersize=6)
        canvas.beside(axes, place, f"median {median:,}")
    canvas.rows(axes, list(splits))
    axes.set(xlabel="characters (bar: 5 to 95 % of the rows; line: all)", xlim=(0, None))
    axes.xaxis.set_major_formatter(canvas.short)
    return figure


def _tokenizer(folder: Path) -> Figures:
    statistics = _read(folder / "statistics.json")
    if not statistics:
        return {}
    from matplotlib.figure import Figure

    figure = Figure(figsize=(canvas.WIDTH, 3.0))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    lengths = {int(length): count for length, count in statistics["token_length"].items()}
    left.bar(list(lengths), list(lengths.values()), 0.86, color=canvas.GREY)
    left.grid(axis="x", visible=False)
    left.set(title=f"{statistics['vocab_size']:,} tokens by length", xlabel="bytes")
    left.set_ylabel("tokens")
    left.xaxis.get_major_locator().set_params(integer=True)
    ratios = statistics["bytes_per_token"]
    splits = [split for split in canvas.SPLITS if split in ratios]
    values, colours = [ratios[s] for s in splits], [canvas.SPLITS[s] for s in splits]
    right.barh(range(len(splits)), values, 0.55, color=colours)
    canvas.rows(right, splits)
    for place, value in enumerate(values):
        canvas.note(right, f"{value:.2f}", (value, place), (4, 0), va="center")
    right.set(title="Text by token", xlabel="bytes per token")
    right.margins(x=0.22)
    return {"token_length": figure}


def _loss(folder: Path) -> Figures:
    """Training and validation loss over tokens, or over steps where tokens are not counted."""
    history = (_read(folder / "training.json") or {"history": []})["history"]
    if not history:
        return {}
    over = "tokens" if history[-1]["tokens"] else "step"
    figure, axes = canvas.figure_with_axes(f"Loss of {folder.name}", 3.4)
    for key, name, style in (
        ("loss", "training", {"color": canvas.ORANGE, "linewidth": 1.3}),
        ("validation_loss", "validation", {"color": canvas.GREEN, "linewidth": 1.9, "marker": "o"}),
    ):
        points = [(point[over], point[key]) for point in history if key in point]
        if points:
            label = f"{name}: {points[-1][1]:.3f} at the end"
            axes.plot(*zip(*points, strict=True), label=label, markersize=4.5, **style)
    axes.set(xlabel={"tokens": "tokens seen", "step": "steps"}[over], ylabel="nats per token")
    axes.xaxis.set_major_formatter(canvas.short)
    axes.set_xlim(left=0)
    axes.legend(loc="upper right")
    return {"loss": figure}


def _language_model(folder: Path) -> Figures:
    """The model's nats beside those of the source, which no model can undercut."""
    kinds = (_read(folder / "metrics.json") or {}).get("by_kind", {})
    names = [name for name in kinds if "ratio" in kinds[name]]
    if not names:
        return {}
    names.sort(key=lambda name: (-kinds[name]["ratio"], name))
    figure, axes = canvas.figure_with_axes(
        "Distance to the best possible model", canvas.ROW * len(names) + 1.4
    )
    model = [kinds[name]["nats_per_token"] for name in names]
    exact = [kinds[name]["nats_per_token"] / kinds[name]["ratio"] for name in names]
    places = range(len(names))
    axes.hlines(places, exact, model, color=canvas.BLUE, linewidth=2.5, alpha=0.45)
    axes.plot(
        exact, places, "|", color=canvas.INK, markersize=13, label="exact −log p of the source"
    )
    axes.plot(model, places, "o", color=canvas.BLUE, markersize=6.5, label="model")
    for place, name in enumerate(names):
        canvas.beside(axes, place, f"× {kinds[name]['ratio']:.3f}")
    canvas.rows(axes, names)
    axes.set(xlabel="nats per token", xlim=(0, None))
    figure.legend(loc="outside lower center", ncols=2)
    return {"limit": figure}


def _report(pipeline: Path) -> Figures:
    rows = read_scores(pipeline)
    return {**_scores(rows), **steps.of_tasks(rows), **_loss(pipeline / "base")}


def _scores(rows: Sequence[Mapping[str, Any]]) -> Figures:
    """Every adaptation's score with its interval, beside its controls; a panel for each task."""
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    if not tasks:
        return {}
    by_task = [[row for row in rows if row["task"] == task] for task in tasks]
    heights = [1.2 * canvas.ROW * len(part) + 1.3 for part in by_task]
    figure = Figure(figsize=(canvas.WIDTH, sum(heights)))
    panels = figure.subplots(len(tasks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, task, part in zip(panels, tasks, by_task, strict=True):
        _task_scores(axes, task, part)
    return {"scores": figure}


def _task_scores(axes: "Axes", task: str, rows: Sequence[Mapping[str, Any]]) -> None:
    for control, line in zip((rows[0]["controls"] or {}).values(), (":", "--"), strict=False):
        style = {"color": canvas.INK, "linewidth": 1.1, "linestyle": line}
        label = f"{control['title']} {control['score']:.3f}"
        axes.axvline(control["score"], label=label, **style)
    hollow = {"color": canvas.GREY, "linewidth": 1.2, "markerfacecolor": "white"}
    for place, row in enumerate(rows):
        if row["random"]:
            _point(axes, place + 0.24, row["random"], "untrained base", hollow)
        _point(
            axes,
            place - 0.06,
            row["metrics"],
            "adaptation",
            {"color": canvas.BLUE, "linewidth": 2.4},
        )
        low, high = row["metrics"]["interval"]
        canvas.beside(axes, place, f"{row['metrics']['score']:.3f} [{low:.3f}, {high:.3f}]")
    canvas.rows(axes, [row["name"] for row in rows])
    metric = rows[0]["metrics"]["metric"]
    which = "; lower is better" if rows[0]["metrics"]["lower_is_better"] else ""
    axes.set(title=f"Scores on {task}", xlabel=f"{metric} on test data, with 95 % intervals{which}")
    axes.margins(x=0.06)
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))  # each label stands for all rows
    above = {"loc": "lower left", "bbox_to_anchor": (-0.01, 1.0), "borderaxespad": 0.2}
    axes.legend(once.values(), once, ncols=4, fontsize=8, columnspacing=1.2, **above)
    axes.set_title(axes.get_title(loc="left"), pad=26)


def _point(axes: "Axes", place: float, metrics: Mapping, label: str, style: dict) -> None:
    axes.plot(metrics["interval"], [place, place], solid_capstyle="round", **style)
    style = style | {"marker": "o", "markersize": 6.5, "linestyle": "none"}
    axes.plot(metrics["score"], place, label=label, **style)


DRAWN: dict[str, Callable[[Path], Figures]] = {
    "dataset": _data,
    "corpus": _data,
    "tokenizer": _tokenizer,
    "base": _loss,
    "adapter": _loss,
    "language_model": _language_model,
    "evaluation": of_evaluation,
    "random": of_evaluation,
    "report": _report,
    "brought_report": _report,
    "search": comparison_plots.of_search,
    "final": of_evaluation,
    "comparison": comparison_plots.of_comparison,
}
