"""What a comparison found: a table, its fronts, and a sentence that says what to ship."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.comparison import intervals, serving
from components.comparison.block import Comparison, Entry
from components.comparison.final import KEPT_SEED
from components.lineage import read_json, read_jsonl, write_json
from components.reporter import Reporter

Row = dict[str, Any]


def collect(
    name: str,
    comparison: Comparison,
    artifacts: Path,
    price: float | None,
    out: Path,
    report: Reporter,
) -> dict[str, float]:
    """Write `comparison.json` and `index.html` from the searches and final trainings of `name`.

    artifacts: the workspace's. price: of the machine, an hour; None: cost is told in seconds only.

    Raises:
        ValueError: a training is missing, or two were judged on other examples.
    """
    from components.report.comparison import write_page

    folder = artifacts / "comparisons" / name
    entries = list(comparison.entries(name))
    scores = {entry.key: _scores(folder, entry, comparison.seeds) for entry in entries}
    _require_one_key(folder, entries, comparison.seeds)
    rows = [_row(folder, entry, comparison.seeds, scores[entry.key], price) for entry in entries]
    report.progress(1, 3, "scores")
    _add_serving(artifacts, folder, entries, rows)
    report.progress(2, 3, "served")
    groups = list(_groups(rows))
    for group in groups:
        _add_differences(group, scores)
        _add_fronts(group)
    figures = read_json(folder / "finals" / entries[0].final(KEPT_SEED) / "metrics.json")
    shape = {"comparison": name, **comparison.model_dump(mode="json")}
    result = {
        **shape,
        "metric": figures["metric"],
        "split": figures["split"],
        "n": figures["n"],
        "rows": rows,
        "advice": [_advice(group) for group in groups],
    }
    write_json(out / "comparison.json", result)
    write_page(folder, result, out)
    report.progress(3, 3)
    return {f"{row['key']}.score": row["score"] for row in rows}


def _scores(folder: Path, entry: Entry, seeds: int) -> np.ndarray:
    """What each example scored. Shape (seeds, examples), the examples in the order of their ids."""
    found = []
    for seed in range(1, seeds + 1):
        place = folder / "finals" / entry.final(seed) / "records.jsonl"
        if not place.is_file():
            raise ValueError(
                f"{place} is missing; run 'dvc repro final@{entry.final(seed)}' to make it"
            )
        records = sorted(read_jsonl(place), key=lambda record: record["id"])
        found.append([float(record["correct"]) for record in records])
    return np.array(found)


def _require_one_key(folder: Path, entries: Sequence[Entry], seeds: int) -> None:
    keys = {}
    for entry in entries:
        for seed in range(1, seeds + 1):
            figures = read_json(folder / "finals" / entry.final(seed) / "metrics.json")
            keys.setdefault(figures["comparison_key"], entry.final(seed))
    if len(keys) > 1:
        raise ValueError(
            f"{' and '.join(keys.values())} were judged on other examples or by another metric; "
            "run 'dvc repro' to judge them anew"
        )


def _row(folder: Path, entry: Entry, seeds: int, scores: np.ndarray, price: float | None) -> Row:
    finals = [
        read_json(folder / "finals" / entry.final(seed) / "final.json")
        for seed in range(1, seeds + 1)
    ]
    seconds = float(np.mean([final["train_seconds"] for final in finals]))
    same = ("pipeline", "name", "method", "examples", "settings", "trainable_parameters", "bytes")
    return {
        "key": entry.key,
        **{key: finals[0][key] for key in (*same, "base_parameters")},
        "score": float(scores.mean()),
        "interval": list(intervals.interval(scores)),
        "seed_scores": [float(score) for score in scores.mean(axis=1)],
        "train_seconds": round(seconds, 2),
        "cost": round(seconds / 3600 * price, 6) if price is not None else None,
    }


def _add_serving(
    artifacts: Path, folder: Path, entries: Sequence[Entry], rows: Sequence[Row]
) -> None:
    """Serve each method on each base; with other amounts of data it is as large and as fast."""
    for pipeline in dict.fromkeys(entry.pipeline for entry in entries):
        of_name = {entry.name: entry for entry in entries if entry.pipeline == pipeline}
        adapters = {
            name: folder / "finals" / entry.final(KEPT_SEED) / "adapter"
            for name, entry in of_name.items()
        }
        prompts = {name: _prompt(artifacts, place) for name, place in adapters.items()}
        measured = serving.measure(artifacts / pipeline / "base", adapters, prompts)
        for row in rows:
            if row["pipeline"] == pipeline:
                nothing = {"first_token_ms": None, "tokens_per_second": None}
                row.update(measured.get(row["name"], nothing))


def _prompt(artifacts: Path, adapter: Path) -> str:
    """A request as the adapter gets them: a test row of middle length after its shots."""
    from components.prompts import with_shots

    about = read_json(adapter / "adapter.json")
    rows = read_jsonl(artifacts / "tasks" / about["task"] / "test.jsonl")
    prompts = sorted((row["prompt"] for row in rows), key=lambda text: (len(text), text))
    return with_shots(about["prompt"]["shot_texts"], prompts[len(prompts) // 2])


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that compete: on one base, with one amount of data."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault((row["pipeline"], row["examples"]), []).append(row)
    return list(groups.values())


def _add_differences(group: list[Row], scores: Mapping[str, np.ndarray]) -> None:
    """To the best of the group: [mean, low, high]; None for the best."""
    best = max(group, key=lambda row: row["score"])
    for row in group:
        gap = None
        if row is not best:
            gap = list(intervals.difference(scores[row["key"]], scores[best["key"]]))
        row["difference_to_best"] = gap
        row["tied_with_best"] = gap is None or gap[2] >= 0


def _add_fronts(group: list[Row]) -> None:
    """Whether no other is as good for less: Pareto's front, over parameters and over seconds."""
    for axis in ("trainable_parameters", "train_seconds"):
        for row in group:
            row[f"on_front_of_{axis}"] = not any(
                other[axis] <= row[axis]
                and other["score"] >= row["score"]
                and (other[axis], other["score"]) != (row[axis], row["score"])
                for other in group
            )


def _advice(group: list[Row]) -> str:
    """What to ship: the cheapest to train whose score cannot be told from the best."""
    best = next(row for row in group if row["difference_to_best"] is None)
    tied = [row for row in group if row["tied_with_best"]]
    cheapest = min(tied, key=lambda row: (row["train_seconds"], row["bytes"]))
    rows = "" if best["examples"] is None else f" with {best['examples']} training rows"
    score = f"{best['score']:.3f} [{best['interval'][0]:.3f}, {best['interval'][1]:.3f}]"
    where = f"On the base of {best['pipeline']}{rows}"
    price = f"{cheapest['train_seconds']:.1f} s of training, {cheapest['bytes']:,} bytes"
    if cheapest is best:
        return (
            f"{where}, ship {best['name']} ({price}): it scores highest, {score}, and every "
            "cheaper one surely less."
        )
    gap = cheapest["difference_to_best"]
    return (
        f"{where}, ship {cheapest['name']} ({price}): its score of {cheapest['score']:.3f} cannot "
        f"be told from the best, {best['name']} with {score} (difference {gap[0]:+.3f} "
        f"[{gap[1]:.3f}, {gap[2]:.3f}])."
    )
