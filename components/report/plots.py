"""The pictures of a stage's result: one function a kind of stage, Figures without global state."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.lineage import read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, GREEN = "#2f6db3", "#d9822b", "#8a8f98", "#3f8f5f"
DPI = 120


def of_stage(kind: str, folder: Path) -> dict[str, "Figure"]:
    """The figures of a finished stage by name; none for a kind, or a folder, without pictures."""
    draw = DRAWN.get(kind)
    return draw(folder) if draw else {}


def _axes(width: float = 7.0, height: float = 3.6) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def loss(folder: Path) -> dict[str, "Figure"]:
    """Training and validation loss over tokens, or over steps where tokens are not counted."""
    if not (folder / "training.json").is_file():
        return {}
    history = read_json(folder / "training.json")["history"]
    over = "tokens" if history[-1]["tokens"] else "steps"
    key = "tokens" if over == "tokens" else "step"
    figure, axes = _axes()
    axes.plot(
        [p[key] for p in history],
        [p["loss"] for p in history],
        color=BLUE,
        lw=1.4,
        label="training",
    )
    held = [p for p in history if "validation_loss" in p]
    axes.plot(
        [p[key] for p in held],
        [p["validation_loss"] for p in held],
        "o-",
        color=ORANGE,
        lw=1.4,
        ms=4,
        label="validation",
    )
    axes.set_xlabel(over)
    axes.set_ylabel("loss, nats per token")
    axes.xaxis.set_major_formatter(_thousands)
    axes.legend(frameon=False)
    return {"loss": figure}


def _thousands(value: float, _position: int) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def data(folder: Path) -> dict[str, "Figure"]:
    """Rows of each label or kind in the training split."""
    groups: Mapping[str, int] = read_json(folder / "report.json")["splits"]["train"]["groups"]
    figure, axes = _axes(height=max(1.6, 0.34 * len(groups) + 0.9))
    names = list(groups)[::-1]
    bars = axes.barh(names, [groups[name] for name in names], color=BLUE, height=0.62)
    axes.bar_label(bars, padding=4, fontsize=9, fmt=lambda value: f"{value:,.0f}")
    axes.set_xlabel("training rows")
    axes.xaxis.set_major_formatter(_thousands)
    axes.margins(x=0.12)
    axes.grid(axis="y", visible=False)
    return {"rows": figure}


def tokenizer(folder: Path) -> dict[str, "Figure"]:
    """How long the vocabulary's entries are."""
    statistics = read_json(folder / "statistics.json")
    lengths = {int(key): value for key, value in statistics["token_length"].items()}
    figure, axes = _axes()
    axes.bar(list(lengths), list(lengths.values()), color=BLUE, width=0.8)
    held = statistics["bytes_per_token"]["validation"]
    axes.axvline(held, color=ORANGE, lw=1.6)
    axes.annotate(
        f"{held:.2f} bytes per token of text",
        (held, 0.94),
        xytext=(6, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color=ORANGE,
    )
    axes.set_xlabel("length of an entry, bytes")
    axes.set_ylabel(f"entries (of {statistics['vocab_size']:,})")
    return {"token_length": figure}


def evaluation(folder: Path) -> dict[str, "Figure"]:
    """The confusion of labels, counts written into the cells."""
    import numpy as np

    figures = read_json(folder / "metrics.json")
    labels, matrix = figures["confusion"]["labels"], np.array(figures["confusion"]["matrix"])
    figure, axes = _axes(1.1 * len(labels) + 2.2, 1.0 * len(labels) + 1.6)
    axes.grid(visible=False)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*matrix.shape):
        colour = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return {"confusion": figure}


def language_model(folder: Path) -> dict[str, "Figure"]:
    """The model's nats over the exact ones, by kind of document, where those are known."""
    by_kind = read_json(folder / "metrics.json")["by_kind"]
    if not all("ratio" in entry for entry in by_kind.values()):
        return {}
    figure, axes = _axes(height=max(1.8, 0.36 * len(by_kind) + 0.9))
    names = sorted(by_kind, key=lambda name: -by_kind[name]["ratio"])
    bars = axes.barh(names, [by_kind[name]["ratio"] for name in names], color=BLUE, height=0.62)
    axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=9)
    axes.axvline(1, color=ORANGE, lw=1.6)
    axes.set_xlabel("nats over the exact entropy (1 is the best possible)")
    axes.margins(x=0.12)
    axes.grid(axis="y", visible=False)
    return {"limit": figure}


def scores(pipeline: Path) -> dict[str, "Figure"]:
    """Every adaptation's score with its interval, beside its control on an untrained base."""
    rows = read_scores(pipeline)
    if not rows:
        return {}
    figure, axes = _axes(height=0.46 * len(rows) + 1.5)
    places = range(len(rows) - 1, -1, -1)
    for place, row in zip(places, rows, strict=True):
        _point(axes, place, row["metrics"], BLUE, "o", "adaptation" if place == 0 else None)
        if row["random"]:
            label = "the same on an untrained base" if place == 0 else None
            _point(axes, place - 0.22, row["random"], GREY, "D", label)
    for task, control in {row["task"]: row["controls"] for row in rows}.items():
        for name, colour in (("majority", GREY), ("tfidf", GREEN)):
            if control:
                label = f"{name} ({task})" if len({r["task"] for r in rows}) > 1 else name
                axes.axvline(control[name]["score"], color=colour, ls="--", lw=1.2, label=label)
    axes.set_yticks(list(places), [row["name"] for row in rows])
    axes.set_xlabel(f"{rows[0]['metrics']['metric']} on test data, with 95 % intervals")
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    return {"scores": figure}


def _point(axes: "Axes", y: float, metrics: Mapping, colour: str, mark: str, label) -> None:
    low, high = metrics["interval"]
    axes.plot([low, high], [y, y], color=colour, lw=1.6, solid_capstyle="round")
    face = "white" if mark == "D" else colour
    axes.plot(metrics["score"], y, mark, color=colour, mfc=face, ms=6, ls="none", label=label)


def read_scores(pipeline: Path) -> list[dict[str, Any]]:
    """What is known of each adaptation of `artifacts/PIPELINE`: adapter, metrics and controls."""
    rows = []
    for folder in sorted((pipeline / "evaluations").glob("*/")):
        adapter = pipeline / "adapters" / folder.name / "adapter.json"
        if not adapter.is_file() or not (folder / "metrics.json").is_file():
            continue
        description = read_json(adapter)
        controls = pipeline.parent / "controls" / description["task"] / "metrics.json"
        random = pipeline / "controls" / folder.name / "metrics.json"
        rows.append(
            {
                "name": folder.name,
                "task": description["task"],
                "adapter": description,
                "metrics": read_json(folder / "metrics.json"),
                "random": read_json(random) if random.is_file() else None,
                "controls": read_json(controls) if controls.is_file() else None,
            }
        )
    return rows


DRAWN: dict[str, Callable[[Path], dict[str, "Figure"]]] = {
    "dataset": data,
    "corpus": data,
    "tokenizer": tokenizer,
    "base": loss,
    "adapter": loss,
    "language_model": language_model,
    "evaluation": evaluation,
    "random": evaluation,
    "report": scores,
}
