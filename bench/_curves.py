"""Plots of throughput."""

from collections.abc import Mapping
from pathlib import Path

from components.report import canvas


def draw(curves: Mapping[str, Mapping[int, float]], folder: Path) -> None:
    """`serving_NAME.png` in `folder` for each curve, tokens a second by what the curve is over."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    for name, points in curves.items():
        with matplotlib.rc_context(canvas.STYLE):
            figure, axes = canvas.figure_with_axes(f"Throughput over {name}", 2.8, 5.0)
            axes.plot(list(points), list(points.values()), "o-", color=canvas.BLUE)
            axes.set_xscale("log", base=2)
            axes.set_xticks(list(points), [f"{count:,}" for count in points])
            axes.minorticks_off()
            axes.set(xlabel=name, ylabel="tokens a second", ylim=(0, None))
            figure.savefig(folder / f"serving_{name.replace(' ', '_')}.png")
