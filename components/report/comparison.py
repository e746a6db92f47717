"""The page of a comparison: which adaptation to ship, and what it costs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.report import canvas, comparison_plots
from components.report.page import address, environment

TEMPLATE = "comparison.html"


def write_page(folder: Path, result: Mapping[str, Any], out: Path) -> None:
    """Write `index.html`, self-contained, into `out`.

    folder: `artifacts/comparisons/NAME`, whose searches are drawn. result: `comparison.json`.
    """
    import matplotlib

    with matplotlib.rc_context(canvas.STYLE):
        drawn = comparison_plots.draw(result)
        searches = {
            row["key"]: figure
            for row in result["rows"]
            for figure in comparison_plots.of_search(folder / "searches" / row["key"]).values()
        }
        page = (
            environment()
            .get_template(TEMPLATE)
            .render(
                result=result,
                figures={name: address(figure) for name, figure in drawn.items()},
                searches={key: address(figure) for key, figure in searches.items()},
            )
        )
    (out / "index.html").write_text(page, encoding="utf-8")
