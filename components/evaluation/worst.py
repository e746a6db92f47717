"""Where a model errs: the worst examples, and the score by the number of worked steps."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.evaluation.metrics import score_of

SHOWN = 12  # examples
CHARACTERS = 600  # of a text, its end of a prompt's


def worst(
    prompts: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The examples with the lowest scores, the worst first; what is fully correct is none.

    Of wrong labels first those whose score exceeds the right one's the most.
    """
    entries = [
        {
            "id": record["id"],
            "prompt": prompt[-CHARACTERS:],
            "expected": row["answer"][:CHARACTERS],
            "generated": [text[:CHARACTERS] for text in record.get("generated", [])],
            **{key: record[key] for key in ("label", "prediction", "correct")},
            "certainty": _certainty(record),
        }
        for prompt, row, record in zip(prompts, rows, records, strict=True)
        if record["correct"] < 1
    ]
    order = sorted(entries, key=lambda e: (float(e["correct"]), -e["certainty"], e["id"]))
    return order[:SHOWN]


def _certainty(record: Mapping[str, Any]) -> float:
    """By how many nats a token the predicted label was preferred to the right one."""
    scores = record.get("scores")
    return scores[record["prediction"]] - scores[record["label"]] if scores else 0.0


def by_steps(records: Sequence[Mapping[str, Any]], metric: str) -> dict[str, dict[str, Any]]:
    """Score, interval and number of examples by the number of worked steps; empty without such."""
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for record in records:
        if "steps" in record:
            groups.setdefault(record["steps"], []).append(record)
    found = {}
    for steps in sorted(groups):
        score, interval = score_of(groups[steps], metric)
        found[str(steps)] = {"score": score, "interval": interval, "n": len(groups[steps])}
    return found
