"""The page that holds the figures against what published work found."""

from collections.abc import Mapping
from typing import Any

from components.ladder.block import Expectation
from components.ladder.climb import Climb
from components.lineage import read_json
from components.metric_names import LOWER_IS_BETTER
from components.report.ladder.measured import shown
from components.report.ladder.page import Page, Table
from components.report.ladder.seeds import over_seeds

HELD, OPEN, CONTRADICTED = "held", "not told apart", "contradicted"


def page(climb: Climb) -> Page | None:
    """None where the ladder expects nothing."""
    if not climb.expects:
        return None
    rows = [_row(climb, expected) for expected in climb.expects]
    verdicts = [row[-1] for row in rows]
    counts = [f"{verdicts.count(v)} {v}" for v in (HELD, OPEN, CONTRADICTED) if v in verdicts]
    return Page(
        title="What was expected",
        what="The orderings that the papers found, held against what was measured here. One is "
        "held, or contradicted, where the two 95 % intervals do not meet.",
        finding=f"Of {len(rows)}: {', '.join(counts)}.",
        tables=[Table(("expected to be better", "than", "by", "the one", "the other", ""), rows)],
    )


def _row(climb: Climb, expected: Expectation) -> tuple[str, ...]:
    better, than = (figure(climb, name, expected.by) for name in (expected.better, expected.than))
    lower = expected.by in LOWER_IS_BETTER
    told = judged(better, than, lower)
    name = f"{expected.by}{' (lower is better)' if lower else ''}"
    return expected.better, expected.than, name, shown(better), shown(than), told


def figure(climb: Climb, rung: str, by: str) -> dict[str, Any]:
    """The figure `by` of `rung`, over its seeds.

    Raises:
        ValueError: the rung has no such figure; the message names those that it has.
    """
    found = []
    for folder in climb.measures(rung):
        value: Any = read_json(folder / "metrics.json")
        for part in by.split("."):
            if not isinstance(value, Mapping) or part not in value:
                known = sorted(value) if isinstance(value, Mapping) else []
                raise ValueError(
                    f"expects: rung {rung} has no figure '{by}': at '{part}' there are "
                    f"{', '.join(known) or 'no names'}"
                )
            value = value[part]
        found.append(value)
    return over_seeds(found)


def judged(better: Mapping[str, Any], than: Mapping[str, Any], lower: bool) -> str:
    """Whether the one surely surpasses the other, by their intervals; open without them."""
    if better["interval"] is None or than["interval"] is None:
        return OPEN
    (low, high), (other_low, other_high) = better["interval"], than["interval"]
    if low <= other_high and other_low <= high:
        return OPEN
    return HELD if (better["score"] < than["score"]) == lower else CONTRADICTED
