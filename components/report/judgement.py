"""What the page says of how far scores can be trusted: calibration, mistakes, overlap, wording."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.evaluation.metrics import bootstrap_interval
from components.lineage import read_json, read_jsonl


def mistakes(pipeline: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict]]:
    """The surest mistakes of each adaptation that made some. pipeline: `artifacts/PIPELINE`."""
    found = {row["name"]: _kept(pipeline, row, "mistakes.json") for row in rows}
    return {name: wrong for name, wrong in found.items() if wrong}


def spreads(pipeline: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The validation scores over wordings and shot orders: "name", "kind", "spread"."""
    return [
        {"name": row["name"], "kind": kind, "spread": spread}
        for row in rows
        for kind, spread in (_kept(pipeline, row, "sensitivity.json") or {}).items()
    ]


def overlap(pipeline: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By task: its figures of `contamination`, an example, and its adaptations' clean scores.

    "scores" of each adaptation hold "all", "clean" and "interval" (None where no row is clean).
    """
    folder = pipeline / "contamination"
    figures = read_json(folder / "metrics.json")
    dirty = [row for row in read_jsonl(folder / "records.jsonl") if row["split"] == "test"]
    told: dict[str, dict[str, Any]] = {}
    for row in rows:
        task = row["task"]
        runs = {found["id"]: found["run"] for found in dirty if found["task"] == task}
        entry = told.setdefault(task, {**figures[task], "run": next(iter(runs.values()), "")})
        records = read_jsonl(_of(pipeline, row) / "records.jsonl")
        clean = [float(record["correct"]) for record in records if record["id"] not in runs]
        scored = {
            "all": row["metrics"]["score"],
            "clean": sum(clean) / len(clean) if clean else None,
            "interval": bootstrap_interval(clean) if clean else None,
        }
        entry.setdefault("scores", {})[row["name"]] = scored
    return told


def _kept(pipeline: Path, row: Mapping[str, Any], name: str) -> Any:
    """A file of an evaluation; None where its kind of task leaves none."""
    path = _of(pipeline, row) / name
    return read_json(path) if path.is_file() else None


def _of(pipeline: Path, row: Mapping[str, Any]) -> Path:
    return pipeline / "evaluations" / row["name"]
