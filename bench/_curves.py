"""Plots of throughput."""

from collections.abc import Mapping
from pathlib import Path


def draw(curves: Mapping[str, Mapping[int, float]], folder: Path) -> None:
    """`serving_NAME.png` in `folder` for each curve, tokens a second by what the curve is over."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for name, points in curves.items():
        figure, axes = pyplot.subplots(figsize=(5, 3.2))
        axes.plot(list(points), list(points.values()), marker="o")
        axes.set_xscale("log", base=2 if name != "adapters" else 10)
        axes.set_xticks(list(points), [str(count) for count in points])
        axes.set_ylim(bottom=0)
        axes.set_xlabel(name)
        axes.set_ylabel("tokens a second")
        figure.tight_layout()
        figure.savefig(folder / f"serving_{name.replace(' ', '_')}.png", dpi=120)
        pyplot.close(figure)
