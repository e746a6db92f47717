"""The picture of a score by the number of worked steps that an example takes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.report import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 3.4  # inches
APART = 0.06  # steps, so that the intervals of two adaptations do not hide each other


def of_evaluation(name: str, metrics: Mapping[str, Any]) -> dict[str, "Figure"]:
    """The picture of one evaluation; none where its examples have no steps."""
    return _drawn(f"Score of {name} by steps", {name: metrics}, "steps")


def of_tasks(rows: Sequence[Mapping[str, Any]]) -> dict[str, "Figure"]:
    """A picture of the adaptations that were judged on the same examples, where those have steps:
    of one task, or of several that only differ in wording.
    """
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        alike.setdefault(row["metrics"]["comparison_key"], []).append(row)
    figures: dict[str, Figure] = {}
    for part in alike.values():
        tasks = " and ".join(dict.fromkeys(row["task"] for row in part))
        judged = {row["name"]: row["metrics"] for row in part}
        figures |= _drawn(f"Scores on {tasks} by steps", judged, f"steps_{part[0]['task']}")
    return figures


def _drawn(title: str, judged: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, "Figure"]:
    judged = {name: metrics for name, metrics in judged.items() if metrics.get("by_steps")}
    if not judged:
        return {}
    figure, axes = canvas.figure_with_axes(title, HEIGHT)
    counts: dict[int, int] = {}
    for place, (name, metrics) in enumerate(judged.items()):
        groups = {int(steps): group for steps, group in metrics["by_steps"].items()}
        order = sorted(groups)
        counts |= {steps: groups[steps]["n"] for steps in order}
        across = [steps + (place - (len(judged) - 1) / 2) * APART for steps in order]
        scores = [groups[steps]["score"] for steps in order]
        colour = canvas.SERIES[place % len(canvas.SERIES)]
        axes.plot(across, scores, "o-", color=colour, label=name, markersize=5)
        for x, steps in zip(across, order, strict=True):
            axes.plot([x, x], groups[steps]["interval"], color=colour, alpha=0.5)
    axes.set_xticks(sorted(counts), [f"{steps}\nn = {counts[steps]:,}" for steps in sorted(counts)])
    metric = next(iter(judged.values()))["metric"]
    axes.set(xlabel="worked steps of the example", ylabel=f"{metric}, with 95 % intervals")
    figure.legend(loc="outside lower center", ncols=4)
    return {key: figure}
