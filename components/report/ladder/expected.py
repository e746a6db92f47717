"""The page that holds the figures against what published work found."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.ladder.block import CONTRADICTED, HELD, OPEN, Expectation
from components.ladder.climb import Climb
from components.lineage import read_json
from components.metric_names import LOWER_IS_BETTER
from components.report.ladder.measured import shown
from components.report.ladder.page import Page, Table
from components.report.ladder.seeds import UNMEASURED, over_seeds


def page(climb: Climb) -> Page | None:
    """None where the ladder expects nothing."""
    if not climb.expects:
        return None
    found = verdicts(climb)
    counts = [f"{number} {verdict}" for verdict, number in counted(found).items() if number]
    head = ("expected to be better", "than", "by", "the one", "the other", "found")
    return Page(
        title="What was expected",
        what="The orderings that the papers found, held against what was measured here. One is "
        "held, or contradicted, where the two 95 % intervals do not meet; a gate lets the run "
        "fail where it is not held.",
        finding=f"Of {len(found)}: {', '.join(counts)}.",
        tables=[Table(head, [_row(one) for one in found])],
    )


def verdicts(climb: Climb) -> list[dict[str, Any]]:
    """Of each expectation its keys, the figures `one` and `other`, and the `verdict` on it."""
    return [_verdict(climb, expected) for expected in climb.expects]


def counted(found: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many of `verdicts` are held, not told apart, contradicted."""
    each = [one["verdict"] for one in found]
    return {verdict: each.count(verdict) for verdict in (HELD, OPEN, CONTRADICTED)}


def _verdict(climb: Climb, expected: Expectation) -> dict[str, Any]:
    better, than = (figure(climb, name, expected.by) for name in (expected.better, expected.than))
    return {
        **{"better": expected.better, "than": expected.than, "by": expected.by},
        **{"must": expected.must, "one": better, "other": than},
        "verdict": judged(better, than, expected.by in LOWER_IS_BETTER),
    }


def _row(found: Mapping[str, Any]) -> tuple[str, ...]:
    by = f"{found['by']}{' (lower is better)' if found['by'] in LOWER_IS_BETTER else ''}"
    verdict = f"{found['verdict']}{' (a gate)' if found['must'] else ''}"
    ends = shown(found["one"]), shown(found["other"])
    return found["better"], found["than"], by, *ends, verdict


def figure(climb: Climb, rung: str, by: str) -> dict[str, Any]:
    """The figure `by` of `rung`, over its seeds; without a score where that was not measured, as
    of a file with another name: all else is done by now, and its book is written.
    """
    found = []
    for folder in climb.measures(rung):
        value: Any = read_json(folder / "metrics.json")
        for part in by.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        found.append(value or UNMEASURED)
    return over_seeds(found)


def judged(better: Mapping[str, Any], than: Mapping[str, Any], lower: bool) -> str:
    """Whether the one surely surpasses the other, by their intervals; open without them."""
    if better["interval"] is None or than["interval"] is None:
        return OPEN
    (low, high), (other_low, other_high) = better["interval"], than["interval"]
    if low <= other_high and other_low <= high:
        return OPEN
    return HELD if (better["score"] < than["score"]) == lower else CONTRADICTED
