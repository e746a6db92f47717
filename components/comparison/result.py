"""What a comparison found: a table, its fronts, and a sentence that says what to ship."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.comparison import intervals, serving
from components.comparison.block import Comparison, Entry
from components.comparison.final import KEPT_SEED
from components.evaluation.metrics import Score, statistics_of
from components.evaluation.text_scores import OF_SUMS
from components.lineage import read_json, read_jsonl, write_json
from components.reporter import Reporter

# times the seconds: machines are shared, and less than that tells two methods apart badly
ALIKE = 1.25
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
    figures = read_json(folder / "finals" / entries[0].final(KEPT_SEED) / "metrics.json")
    score = OF_SUMS.get(figures["metric"])
    sign, most = (-1, float("inf")) if figures["lower_is_better"] else (1, 1.0)
    bounds = {key: intervals.interval(each, score, most) for key, each in scores.items()}
    rows = [_row(folder, entry, scores[entry.key], score, price) for entry in entries]
    for row in rows:
        row["interval"] = list(bounds[row["key"]])
        row["merit"] = sign * row["score"]  # more is better, whatever the metric
    report.progress(1, 3, "scores")
    _add_serving(artifacts, folder, entries, rows)
    report.progress(2, 3, "served")
    groups = list(_groups(rows))
    for group in groups:
        _add_differences(group, scores, score, sign, most)
        _add_fronts(group)
    shape = {"comparison": name, **comparison.model_dump(mode="json")}
    result = {
        **shape,
        "metric": figures["metric"],
        "split": figures["split"],
        "train_rows": read_json(artifacts / "tasks" / comparison.task / "task.json")["counts"][
            "train"
        ],
        "n": figures["n"],
        "intervals": intervals.covered(comparison.seeds),
        **_beside_scores(artifacts, comparison),
        "rows": rows,
        "advice": [_advice(group) for group in groups],
    }
    write_json(out / "comparison.json", result)
    write_page(folder, result, out)
    report.progress(3, 3)
    return {f"{row['key']}.score": row["score"] for row in rows}


def _beside_scores(artifacts: Path, comparison: Comparison) -> dict[str, Any]:
    """What scores are to be seen beside, as far as it was made: `controls`, what the task gives
    without a language model, and `overlap`, by pipeline what its corpus holds of the test rows.
    """
    controls = artifacts / "controls" / comparison.task / "metrics.json"
    overlap = {}
    for pipeline in comparison.pipelines:
        place = artifacts / pipeline / "contamination" / "metrics.json"
        found = read_json(place).get(comparison.task) if place.is_file() else None
        if found:
            overlap[pipeline] = {"words": found["words"], **found["test"]}
    return {"controls": read_json(controls) if controls.is_file() else {}, "overlap": overlap}


def _scores(folder: Path, entry: Entry, seeds: int) -> np.ndarray:
    """What each example scored, in the order of their ids; see `intervals` for the shape."""
    found = []
    for seed in range(1, seeds + 1):
        place = folder / "finals" / entry.final(seed) / "records.jsonl"
        if not place.is_file():
            raise ValueError(
                f"{place} is missing; run 'dvc repro final@{entry.final(seed)}' to make it"
            )
        records = sorted(read_jsonl(place), key=lambda record: record["id"])
        found.append([statistics_of(record) for record in records])
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


def _row(folder: Path, entry: Entry, figures: np.ndarray, score: Score, price: float | None) -> Row:
    places = [folder / "finals" / entry.final(seed + 1) for seed in range(len(figures))]
    finals = [read_json(place / "final.json") for place in places]
    judged = [read_json(place / "metrics.json") for place in places]
    scores = intervals.score_of(figures, score)
    # the median: one training beside other work would decide what is called quick
    seconds = float(np.median([final["train_seconds"] for final in finals]))
    searched = finals[0]["search_seconds"]
    same = ("pipeline", "name", "method", "examples", "settings", "trainable_parameters", "bytes")
    return {
        "key": entry.key,
        **{key: finals[0][key] for key in (*same, "base_parameters")},
        "score": float(scores.mean()),
        "seed_scores": scores.tolist(),
        "train_seconds": round(seconds, 2),
        "search_seconds": searched,
        "cost": cost_of(seconds, price),
        "rows_cut": max(final["rows_cut"] for final in finals),
        "truncated": max(seed["truncated"] for seed in judged),
        "unfinished": max(seed["unfinished"] for seed in judged),
    }


def cost_of(seconds: float, price: float | None) -> float | None:
    """What `seconds` of a machine cost at `price` an hour; None without a price."""
    return None if price is None else round(seconds / 3600 * price, 6)


def _add_serving(
    artifacts: Path, folder: Path, entries: Sequence[Entry], rows: Sequence[Row]
) -> None:
    """Serve each method on each base, once for each way that it is asked.

    A prompt with more shots is longer to read. What was trained on other amounts of data is as
    large and as fast.
    """
    for pipeline in dict.fromkeys(entry.pipeline for entry in entries):
        own = [entry for entry in entries if entry.pipeline == pipeline]
        places = {e.key: folder / "finals" / e.final(KEPT_SEED) / "adapter" for e in own}
        prompts = {key: _prompt(artifacts, place) for key, place in places.items()}
        served: dict[tuple[str, str], str] = {}  # by method and request: the first such entry's key
        shared = {e.key: served.setdefault((e.name, prompts[e.key]), e.key) for e in own}
        asked = {key: places[key] for key in served.values()}
        measured = serving.measure(artifacts / pipeline / "base", asked, prompts)
        for row in rows:
            if row["pipeline"] == pipeline:
                row.update({"first_token_ms": None, "tokens_per_second": None})  # a head's
                row.update(measured[shared[row["key"]]])


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


def _add_differences(
    group: list[Row], scores: Mapping[str, np.ndarray], score: Score, sign: int, most: float
) -> None:
    """How much better than the best of the group: [mean, low, high]; None for the best.

    sign: -1 where a lower score is better, so that a worse row's difference is below zero. most:
    the highest score that there is, beyond which no difference goes.
    """
    best = max(group, key=lambda row: row["merit"])
    others = [row for row in group if row is not best]
    sides = [[scores[row["key"]], scores[best["key"]]][::sign] for row in others]
    gaps = [intervals.difference(*pair, score) for pair in sides]
    best |= {"difference_to_best": None, "tied_with_best": True}
    for row, gap in zip(others, intervals.joint(gaps, len(group)), strict=True):
        row["difference_to_best"] = [max(-most, min(most, each)) for each in gap]
        row["tied_with_best"] = gap[2] >= 0


def _add_fronts(group: list[Row]) -> None:
    """Whether no other is as good for less: Pareto's front, over parameters and over seconds."""
    for axis in ("trainable_parameters", "train_seconds"):
        for row in group:
            row[f"on_front_of_{axis}"] = not any(
                other[axis] <= row[axis]
                and other["merit"] >= row["merit"]
                and (other[axis], other["merit"]) != (row[axis], row["merit"])
                for other in group
            )


def _advice(group: list[Row]) -> str:
    """What to ship: the cheapest that scores as the best does.

    As the best: it cannot be told from it, and lies within the interval of the best's own score.
    Without the latter a method would be advised for scattering so much that nothing can be said
    of it. Cheapest to train; where two take about as long, the smaller one. The others that cannot
    be told from the best are named with what they cost more, or less.
    """
    best = next(row for row in group if row["difference_to_best"] is None)
    tied = [row for row in group if row["tied_with_best"]]
    near = [row for row in tied if _within(row, best)]
    quick = ALIKE * min(row["train_seconds"] for row in near)
    about = [row for row in near if row["train_seconds"] <= quick]
    cheapest = min(about, key=lambda row: (row["bytes"], row["train_seconds"]))
    rows = "" if best["examples"] is None else f" with {best['examples']} training rows"
    price = f"{cheapest['train_seconds']:.1f} s of training, {cheapest['bytes']:,} bytes"
    said = [
        f"On the base of {best['pipeline']}{rows}, ship {cheapest['name']} ({price}): "
        + _standing(cheapest, best)
    ]
    others = [row for row in near if row not in (cheapest, best)]
    if others:
        named = ", ".join(f"{row['name']} ({_beside(row, cheapest)})" for row in others)
        it = "it" if cheapest is best else "the best either"
        said.append(f"Cannot be told from {it}: {named}.")
    said += [_undecided(row) for row in tied if row not in near]
    some = len(tied) < len(group)
    said.append(
        "All others score surely less." if some else "None scores surely less than the best."
    )
    return " ".join(said)


def _within(row: Row, best: Row) -> bool:
    """Whether the score of `row` lies in the interval of the best."""
    return best["interval"][0] <= row["score"] <= best["interval"][1]


def _undecided(row: Row) -> str:
    low, high = row["interval"]
    return (
        f"Undecided: {row['name']} scores {row['score']:.3f} [{low:.3f}, {high:.3f}], not surely "
        "less, for its seeds differ; train more of them."
    )


def _standing(row: Row, best: Row) -> str:
    """How `row`, which is to be shipped, scores beside the best."""
    score = f"{best['score']:.3f} [{best['interval'][0]:.3f}, {best['interval'][1]:.3f}]"
    if row is best:
        return f"it scores best, {score}."
    gap = row["difference_to_best"]
    return (
        f"its score of {row['score']:.3f} cannot be told from the best, {best['name']} with "
        f"{score} (difference {gap[0]:+.3f} [{gap[1]:.3f}, {gap[2]:.3f}]; {_beside(best, row)})."
    )


def _beside(row: Row, shipped: Row) -> str:
    """What `row` takes to train and to keep, beside what is shipped."""
    time, other = row["train_seconds"], shipped["train_seconds"]
    size, least = row["bytes"], shipped["bytes"]
    longer = f"{_times(time / other)} as long to train" if other else f"{time:.1f} s of training"
    larger = f"{_times(size / least)} as large" if least else f"{size:,} bytes"
    return (
        f"{'as quick' if time <= ALIKE * other else longer} and "
        f"{'as large' if abs(size - least) <= least / 100 else larger}"
    )


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.2g} times"
