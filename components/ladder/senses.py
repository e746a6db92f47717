"""A word with two meanings: does a model give it two vectors?"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluation.metrics import score_of
from components.lineage import read_jsonl

WORD = "bank"
MOST = 60  # sentences of each meaning
SENSES = ("river", "money")
LEFT, RIGHT = "left", "right"
SIDES = (LEFT, RIGHT)  # of the word, on which stands what tells its meaning
DECIDED_LEFT = {
    "river": (
        "The water rose until it reached the top of the bank .",
        "The river had left stones and sand on the bank .",
        "After the flood the stream had cut into its bank .",
        "Swimming across the river , he climbed the steep bank .",
        "The boat drifted down the river and struck the bank .",
        "Reeds and willows grew beside the water on the bank .",
        "The fish were thrown out of the water onto the bank .",
        "Where the river turns there is a high bank .",
        "They fished all day from the bank .",
        "The ferry carried us across the stream to the far bank .",
        "He pulled the boat out of the water and up the bank .",
        "The flood carried mud and leaves over the bank .",
    ),
    "money": (
        "He put all of his money into the bank .",
        "She borrowed two hundred pounds from the bank .",
        "The company paid its debts to the bank .",
        "His father was a director of a large bank .",
        "They took the cash and the cheques to the bank .",
        "The government gave a loan to the national bank .",
        "Her savings were kept in an account at the bank .",
        "The price of gold was fixed by the central bank .",
        "He owed a hundred pounds to the bank .",
        "The clerk counted the coins and locked the bank .",
        "The merchant signed the cheque and sent it to the bank .",
        "They lost all of their savings with the failure of the bank .",
    ),
}
# (beginning, its end by the river, its end where the money is). A model that reads from left to
# right has the same vector for both: it has read the same.
DECIDED_RIGHT = (
    ("He went to the bank", "of the river to fish .", "to borrow some money ."),
    ("The bank", "of the stream was covered with grass .", "refused to give them a loan ."),
    ("They met at the bank", "of the river under the trees .", "to sign for the loan ."),
    ("They came to the bank", "of the lake to find a boat .", "with a cheque for ten pounds ."),
    ("The old bank", "was washed away by the flood .", "was closed because of its debts ."),
    ("We saw the bank", "on the other side of the river .", "that had lent him the money ."),
    ("The men ran to the bank", "and jumped into the water .", "and took their savings out ."),
    ("There was a bank", "of sand along the stream .", "that paid a high rate of interest ."),
    ("He left the bank", "and swam across the river .", "with all of his gold and silver ."),
    ("In the evening the bank", "was under the water of the lake .", "closed to its customers ."),
    ("She walked to the bank", "of the canal near the mill .", "to open an account ."),
    ("Near the town the bank", "of the creek is steep .", "lends money to farmers ."),
    ("After the war the bank", "of the river was planted with trees .", "sold its shares ."),
    ("He had never seen the bank", "of the Thames at low tide .", "pay so much interest ."),
    ("A house stood near the bank", "where the boats were tied .", "where they kept their money ."),
    (
        "The boy sat by the bank",
        "and threw stones into the water .",
        "and waited for the cashier .",
    ),
)
BY_RIVER = re.compile(r"\bon the bank of the\b")


def sentences(test: Path) -> list[dict[str, str]]:
    """Sentences with the word, its meaning, and where that is decided: {"text", "sense", "side"}.

    test: a file of the world, whose own sentences are taken; of any other text, those above. The
    world's are all decided on the left: one stands "on the bank" of a river, and goes "to the bank"
    with money.
    """
    found: dict[str, list[str]] = {sense: [] for sense in SENSES}
    for row in read_jsonl(test):
        if row.get("kind") == WORD:
            found["river" if BY_RIVER.search(row["text"]) else "money"].append(row["text"])
    chosen: Mapping[str, Sequence[str]] = found if all(found.values()) else DECIDED_LEFT
    rows = [(text, sense, LEFT) for sense in SENSES for text in chosen[sense][:MOST]]
    if chosen is DECIDED_LEFT:
        for beginning, *ends in DECIDED_RIGHT:
            pair = zip(ends, SENSES, strict=True)
            rows += [(f"{beginning} {end}", sense, RIGHT) for end, sense in pair]
    return [dict(zip(("text", "sense", "side"), row, strict=True)) for row in rows]


def judge(vectors: np.ndarray, rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """How well the word's vectors tell its meanings, and what a picture of them needs.

    vectors: (sentences, width), of `rows` of `sentences`. Returns `told`, by side, see
    `told_apart`; and of each sentence its row and its `point`, in the plane of the two principal
    components of all vectors.
    """
    told = {}
    for side in SIDES:
        own = [number for number, row in enumerate(rows) if row["side"] == side]
        if own:
            told[side] = told_apart(vectors[own], [rows[number] for number in own])
    centred = vectors - vectors.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    points = np.round((centred @ axes[:2].T).astype(float), 4).tolist()
    return {
        "told": told,
        "sentences": [{**row, "point": point} for row, point in zip(rows, points, strict=True)],
    }


def figures(judged: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What `metrics.json` says of `judge`'s result: `senses_left`, and `senses_right` if asked."""
    return {f"senses_{side}": told for side, told in judged["told"].items()}


def place_of(text: str) -> int:
    """Where the word begins in `text`, in characters."""
    match = re.search(rf"\b{WORD}\b", text)
    assert match is not None, f"no '{WORD}' in {text!r}"
    return match.start()


def told_apart(vectors: np.ndarray, rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The share of vectors whose meaning is that of the mean vector that is nearest by cosine.

    vectors: (sentences, width). Means leave out the sentences that begin as the judged one does,
    up to the word: itself, and its twin of the other meaning. Equal vectors, as of a model that has
    one for the word, are right by half. The interval draws beginnings: the two of a pair are no
    independent sentences.
    """
    beginnings = [row["text"][: place_of(row["text"])] for row in rows]
    right: list[float] = []
    for number, beginning in enumerate(beginnings):
        kept = [n for n, other in enumerate(beginnings) if other != beginning]
        right.append(_nearest(vectors, rows, number, kept))
    return by_beginning(beginnings, right)


def by_beginning(beginnings: Sequence[str], right: Sequence[float]) -> dict[str, Any]:
    """The share that is right of sentences, and its interval, which draws their beginnings."""
    found: dict[str, list[float]] = defaultdict(list)
    for beginning, value in zip(beginnings, right, strict=True):
        found[beginning].append(value)
    shares = [{"correct": sum(values) / len(values)} for values in found.values()]
    score, interval = score_of(shares, "accuracy")
    return {"score": score, "interval": interval, "n": len(right), "beginnings": len(shares)}


def _nearest(
    vectors: np.ndarray, rows: Sequence[Mapping[str, str]], number: int, kept: Sequence[int]
) -> float:
    """1 if the vector of `number` is nearer to the mean of its own meaning among those of `kept`,
    1/2 if it cannot be told.
    """
    own = _unit(vectors[number])
    near = {}
    for sense in SENSES:
        others = [n for n in kept if rows[n]["sense"] == sense]
        near[sense] = float(own @ _unit(_unit(vectors[others]).mean(0)))
    right = near[rows[number]["sense"]]
    wrong = max(value for sense, value in near.items() if sense != rows[number]["sense"])
    return 0.5 if np.isclose(right, wrong, atol=1e-6) else float(right > wrong)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, np.finfo(np.float32).tiny)
