"""The question that every rung is asked: which words are near this one?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from components.lineage import read_json
from components.report.ladder.measured import NONE
from components.report.ladder.page import Table

SHOWN = 4  # neighbours of each word
OF_TOKENS = (
    "The nearest words by the cosine of their rows in the model's table of embeddings, the first "
    "seed's; words of the test text that are one token alone."
)


def table(
    measured: Mapping[str, Sequence[Path]], caption: str, alike: Sequence[str] = ()
) -> list[Table]:
    """What the first training of each rung has near a word; none where no rung knows any.

    alike: rungs before them to which all words are as far apart.
    """
    near = {name: read_json(folders[0] / "neighbours.json") for name, folders in measured.items()}
    words = list(dict.fromkeys(word for found in near.values() for word in found))
    if not words:
        return []
    rows = [
        [
            word,
            *(["all alike"] * len(alike)),
            *(_near(found.get(word, [])) for found in near.values()),
        ]
        for word in words
    ]
    return [Table(("near", *alike, *near), rows, caption)]


def _near(found: Sequence[tuple[str, float]]) -> str:
    return ", ".join(word for word, _ in found[:SHOWN]) or NONE
