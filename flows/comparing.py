"""`kindling compare`: what a comparison found, or a task's adapters side by side."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.catalogue import Catalogue, CatalogueError, suggestion
from components.lineage import read_json

WIDTH = 170  # columns, where there is no terminal to ask
AXES = ("base", "rows")  # of a comparison, shown where they vary
COST = "cost"
SCORE = "score \\[95 % interval]"
LEFT = ("adaptation", "adapter", "base", SCORE, "difference", "to the best")


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
        from components.comparison.result import cost_of

        told = read_json(path)
        price = catalogue.compute.price_per_hour  # today's: nothing was trained for another one
        for row in told["rows"]:
            row["cost"] = cost_of(row["train_seconds"], price)
        return told
    if name in catalogue.tasks:
        return {"task": name, "rows": _adapters(workspace, catalogue, name), "advice": []}
    known = [*catalogue.comparisons, *catalogue.tasks]
    raise CatalogueError(f"no comparison or task '{name}'{suggestion(name, known)}")


def _adapters(workspace: Path, catalogue: Catalogue, task: str) -> list[dict[str, Any]]:
    from components.evaluation.compare import compare as side_by_side

    if task not in {block.task for block in catalogue.adapters.values()}:
        raise ValueError(f"no adapter is for task '{task}'; a comparison has a name of its own")
    folders = {
        name: workspace / "artifacts" / block.pipeline / "evaluations" / name
        for name, block in catalogue.adapters.items()
        if block.task == task
    }
    return side_by_side(folders)


def show(told: Mapping[str, Any]) -> None:
    """Print the table, and what to ship."""
    from rich.console import Console
    from rich.table import Column, Table

    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    rows = told["rows"]
    if "comparison" in told:
        cells = [_row(row) for row in rows]
        axes = [name for name in AXES if len({row[name] for row in cells}) == 1]
        axes += [] if any(row["cost"] is not None for row in rows) else [COST]
        cells = [{k: v for k, v in row.items() if k not in axes} for row in cells]  # no axis here
    else:
        cells = [_adapter(row, rows[0]["name"]) for row in rows]
    table = Table(*(Column(n, justify="left" if n in LEFT else "right") for n in cells[0]))
    for row in cells:
        table.add_row(*row.values())
    console.print(table)
    for said in [*told["advice"], told.get("intervals")]:
        if said:
            console.print(said, highlight=False)


def _row(row: Mapping[str, Any]) -> dict[str, str]:
    gap = row["difference_to_best"]
    tied = " (not told apart)" if row["tied_with_best"] else ""
    return {
        "base": row["pipeline"],
        "rows": str(row["examples"] or "all"),
        "adaptation": row["name"],
        SCORE: _score(row),
        "to the best": "best" if gap is None else _gap(gap) + tied,
        "parameters": f"{row['trainable_parameters']:,}",
        "bytes": f"{row['bytes']:,}",
        "in memory": _or_dash(row.get("memory_bytes"), ","),
        "train s": f"{row['train_seconds']:.1f}",
        "search s": f"{row['search_seconds']:.1f}",
        COST: _or_dash(row["cost"], ".5f"),
        "first token ms": _or_dash(row["first_token_ms"], ".1f"),
        "tokens/s": _or_dash(row["tokens_per_second"], ".0f"),
    }


def _adapter(row: Mapping[str, Any], first: str) -> dict[str, str]:
    gap = row["difference"]
    return {
        "adapter": row["name"],
        SCORE: f"{row['metric']} {_score(row)}",
        "difference": f"{_gap(gap)} over {first}" if gap else "",
    }


def _score(row: Mapping[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['score']:.3f} \\[{low:.3f}, {high:.3f}]"


def _gap(gap: list[float]) -> str:
    mean, low, high = gap
    return f"{mean:+.3f} \\[{low:+.3f}, {high:+.3f}]"


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"
