"""`kindling compare`: what a comparison found, or a task's adapters side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.catalogue import Catalogue, CatalogueError, suggestion
from components.lineage import read_json


def compare(workspace: Path, catalogue: Catalogue, name: str) -> dict[str, Any]:
    """What is known of the comparison or task `name`, as JSON values: `rows`, and `advice`.

    Raises:
        CatalogueError: there is no such comparison or task.
        ValueError: it has not run yet, or its results cannot be compared.
    """
    if name in catalogue.comparisons:
        path = workspace / "artifacts" / "comparisons" / name / "result" / "comparison.json"
        if not path.is_file():
            pipeline = catalogue.comparisons[name].pipelines[0]
            raise ValueError(
                f"comparison '{name}' has no result yet; 'kindling run {pipeline}' makes it"
            )
        return read_json(path)
    if name in catalogue.tasks:
        return {"task": name, "rows": _adapters(workspace, catalogue, name), "advice": []}
    known = [*catalogue.comparisons, *catalogue.tasks]
    raise CatalogueError(f"no comparison or task '{name}'{suggestion(name, known)}")


def _adapters(workspace: Path, catalogue: Catalogue, task: str) -> list[dict[str, Any]]:
    from components.evaluation.compare import compare as side_by_side

    folders = {
        name: workspace / "artifacts" / block.pipeline / "evaluations" / name
        for name, block in catalogue.adapters.items()
        if block.task == task
    }
    return side_by_side(folders)


def show(told: Mapping[str, Any]) -> None:
    """Print the table, and what to ship."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table()
    compared = "comparison" in told
    for column in COMPARISON if compared else ("adapter", "score [95 % interval]", "difference"):
        table.add_column(column, justify="left" if column in LEFT else "right")
    for row in told["rows"]:
        table.add_row(*(_row(row) if compared else _adapter(row, told["rows"][0]["name"])))
    console.print(table)
    for advice in told["advice"]:
        console.print(advice, highlight=False)


LEFT = ("adaptation", "adapter", "base", "score [95 % interval]", "difference", "to the best")
COMPARISON = (
    *("base", "rows", "adaptation", "score [95 % interval]", "to the best", "parameters"),
    *("bytes", "train s", "first token ms", "tokens/s"),
)


def _row(row: Mapping[str, Any]) -> list[str]:
    gap = row["difference_to_best"]
    tied = " (not told apart)" if row["tied_with_best"] else ""
    return [
        row["pipeline"],
        str(row["examples"] or "all"),
        row["name"],
        _score(row),
        "best" if gap is None else _gap(gap) + tied,
        f"{row['trainable_parameters']:,}",
        f"{row['bytes']:,}",
        f"{row['train_seconds']:.1f}",
        _or_dash(row["first_token_ms"], ".1f"),
        _or_dash(row["tokens_per_second"], ".0f"),
    ]


def _adapter(row: Mapping[str, Any], first: str) -> list[str]:
    gap = row["difference"]
    return [
        row["name"],
        f"{row['metric']} {_score(row)}",
        f"{_gap(gap)} over {first}" if gap else "",
    ]


def _score(row: Mapping[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['score']:.3f} \\[{low:.3f}, {high:.3f}]"


def _gap(gap: list[float]) -> str:
    mean, low, high = gap
    return f"{mean:+.3f} \\[{low:+.3f}, {high:+.3f}]"


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"
