"""What does "it" stand for? Sentences whose last word decides (Levesque et al. 2012)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.ladder import senses
from components.lineage import read_jsonl

MOST = 200
GAP = "___"
OF_WORLD = re.compile(
    r"The \w+ (?P<being>\w+) of \w+ did not \w+ the (?P<thing>\w+) because it was too \w+, "
    r"and we all know that the (?P<referent>\w+) was too \w+\."
)
# (what was not done, by whom, to what, why because of the one, why because of the other)
REAL = (
    ("cross", "animal", "street", "tired", "wide"),
    ("climb", "boy", "hill", "weak", "steep"),
    ("enter", "horse", "house", "afraid", "small"),
    ("eat", "man", "food", "ill", "hot"),
    ("leave", "ship", "harbour", "late", "narrow"),
    ("carry", "woman", "stone", "old", "heavy"),
    ("read", "child", "book", "young", "long"),
    ("take", "army", "city", "weak", "strong"),
)


@dataclass(frozen=True)
class Question:
    """text: with a gap where the answer belongs. candidates: the right one first."""

    text: str
    candidates: tuple[str, str]


def questions(test: Path) -> list[Question]:
    """Those of the world's test split where `test` is of the world; else those above."""
    found = list(_of_world(row["text"] for row in read_jsonl(test) if row.get("kind") == "pronoun"))
    return found[:MOST] or list(_real())


def share_right(answered: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The share of answers that are right. answered: of each question its `text` and `correct`.

    The interval draws beginnings: two sentences that differ by their last word alone are no
    independent ones. Who always says the first candidate is right in one of each two.
    """
    beginnings = [answer["text"].partition(GAP)[0] for answer in answered]
    return senses.by_beginning(beginnings, [answer["correct"] for answer in answered])


def _of_world(texts: Iterable[str]) -> Iterable[Question]:
    for text in texts:
        match = OF_WORLD.fullmatch(text)
        if match is None:
            continue
        start, end = match.span("referent")
        right = match["referent"]
        wrong = match["thing"] if right == match["being"] else match["being"]
        yield Question(text[:start] + GAP + text[end:], (right, wrong))


def _real() -> Iterable[Question]:
    for act, being, thing, own, other in REAL:
        start = f"The {being} did not {act} the {thing} because the {GAP} was too"
        yield Question(f"{start} {own} .", (being, thing))
        yield Question(f"{start} {other} .", (thing, being))
