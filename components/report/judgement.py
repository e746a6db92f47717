"""What the page says of how far scores can be trusted: overlap with the corpus, wording."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.evaluation.metrics import score_of
from components.lineage import read_json, read_jsonl


def spreads(pipeline: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The validation scores over wordings and shot orders: "name", "kind", "spread"."""
    return [
        {"name": row["name"], "kind": kind, "spread": spread}
        for row in rows
        for kind, spread in (_kept(pipeline, row, "sensitivity.json") or {}).items()
    ]


def overlap(pipeline: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By task: its figures of `contamination`, an example, and its adaptations' clean scores.

    Nothing where there is no corpus to overlap with, as of a base that was brought along.

    "scores" of each adaptation hold "all", "clean" and "interval" (None where no row is clean).
    """
    folder = pipeline / "contamination"
    if not folder.is_dir():
        return {}
    figures = read_json(folder / "metrics.json")
    dirty = [row for row in read_jsonl(folder / "records.jsonl") if row["split"] == "test"]
    told: dict[str, dict[str, Any]] = {}
    for row in rows:
        task = row["task"]
        runs = {found["id"]: found["run"] for found in dirty if found["task"] == task}
        entry = told.setdefault(task, {**figures[task], "run": next(iter(runs.values()), "")})
        records = read_jsonl(_of(pipeline, row) / "records.jsonl")
        clean = [record for record in records if record["id"] not in runs]
        score, interval = score_of(clean, row["metrics"]["metric"]) if clean else (None, None)
        scored = {"all": row["metrics"]["score"], "clean": score, "interval": interval}
        entry.setdefault("scores", {})[row["name"]] = scored
    return told


def _kept(pipeline: Path, row: Mapping[str, Any], name: str) -> Any:
    """A file of an evaluation; None where its kind of task leaves none."""
    path = _of(pipeline, row) / name
    return read_json(path) if path.is_file() else None


def _of(pipeline: Path, row: Mapping[str, Any]) -> Path:
    return pipeline / "evaluations" / row["name"]
