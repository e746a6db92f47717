"""Two or more evaluations side by side, example by example."""

from collections.abc import Mapping
from pathlib import Path

from components.evaluation.metrics import aligned, paired_difference, score_of
from components.evaluation.text_scores import OF_SUMS
from components.lineage import read_json, read_jsonl
from components.metric_names import LOWER_IS_BETTER


def metrics_of(folder: Path) -> dict:
    """The figures of an evaluation folder.

    Raises:
        ValueError: the folder holds no evaluation of examples, so nothing can be compared.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no metrics.json; run `dvc repro` to make it")
    figures = read_json(path)
    if "comparison_key" not in figures:
        raise ValueError(f"{folder} judges no examples of a task; name an adapter's evaluation")
    return figures


def difference(folder: Path, rival: Path, confidence: float = 0.95) -> tuple[float, float, float]:
    """By how much `folder` is better than `rival` on the same examples: (mean, low, high).

    Above zero is always better: of a metric that is better where it is lower, as bits per byte, it
    is by how much `folder` lies below.

    Raises:
        ValueError: the two were judged on other examples, labels, splits or by another metric.
    """
    figures = [metrics_of(place) for place in (folder, rival)]
    keys = [each["comparison_key"] for each in figures]
    if keys[0] != keys[1]:
        raise ValueError(
            f"{folder} (key {keys[0][:12]}) and {rival} (key {keys[1][:12]}) were judged on other "
            "examples, splits or labels, or by another metric; run `dvc repro` to judge both anew, "
            "and compare adapters of one task"
        )
    ours, theirs = aligned(*(read_jsonl(place / "records.jsonl") for place in (folder, rival)))
    metric = figures[0]["metric"]
    if metric in LOWER_IS_BETTER:
        ours, theirs = theirs, ours
    return paired_difference(ours, theirs, confidence, score=OF_SUMS.get(metric))


def compare(folders: Mapping[str, Path], confidence: float = 0.95) -> list[dict]:
    """Score and interval of each evaluation, and its paired difference to the first.

    folders: evaluation folders by the name to show.

    Returns one dict each: "name", "metric", "split", "score", "interval" [low, high], "n", and
    "difference" [mean, low, high], None for the first.

    Raises:
        ValueError: no folders, a folder without an evaluation, or results that cannot be compared.
    """
    if not folders:
        raise ValueError("nothing to compare; name at least one evaluation")
    first = next(iter(folders.values()))
    rows = []
    for name, folder in folders.items():
        figures = metrics_of(folder)
        gap = difference(folder, first, confidence)
        records = list(read_jsonl(folder / "records.jsonl"))
        _, interval = score_of(records, figures["metric"], confidence)
        rows.append(
            {key: figures[key] for key in ("metric", "split", "score", "n")}
            | {
                "name": name,
                "interval": interval,
                "difference": list(gap) if rows else None,
            }
        )
    return rows
