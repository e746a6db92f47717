"""A word with two meanings: does a model give it two vectors?"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluation.metrics import score_of
from components.lineage import read_jsonl

WORD = "bank"
MOST = 60  # sentences of each meaning
SENSES = ("river", "money")
# In half of them what tells the meaning stands behind the word, where only a model that reads both
# ways has seen it.
SENTENCES = {
    "river": (
        "They sat on the bank of the river and watched the boats .",
        "The bank of the stream was covered with grass .",
        "On the bank of the lake stood an old tree .",
        "He pulled the boat up on the bank of the river .",
        "The bank of the Thames was full of mud .",
        "She walked along the bank of the canal to the mill .",
        "The bank of the creek had been washed away by the flood .",
        "Soldiers crossed to the other bank of the river at night .",
        "The water rose until it reached the top of the bank .",
        "The river had left a bank of sand and stones .",
        "After the flood the stream had cut into its bank .",
        "Swimming across the river , he climbed the steep bank .",
        "The boat drifted down the river and struck the bank .",
        "Reeds and willows grew beside the water on the bank .",
        "The fish were thrown out of the water onto the bank .",
        "Where the river turns there is a high bank .",
    ),
    "money": (
        "The bank lent him the money to buy a house .",
        "The bank was robbed of its gold and silver .",
        "The bank paid a high rate of interest .",
        "The bank refused to give the company a loan .",
        "The bank closed its doors after its debts were known .",
        "The bank held the savings of the whole town .",
        "The bank issued notes and coins .",
        "The bank and its shareholders lost millions of dollars .",
        "He put all of his money into the bank .",
        "She borrowed two hundred pounds from the bank .",
        "The company paid its debts to the bank .",
        "His father was a director of a large bank .",
        "They took the cash and the cheques to the bank .",
        "The government gave a loan to the national bank .",
        "Her savings were kept in an account at the bank .",
        "The price of gold was fixed by the central bank .",
    ),
}
BY_RIVER = re.compile(r"\bon the bank of the\b")


def sentences(test: Path) -> list[dict[str, str]]:
    """Sentences with the word, and which meaning it has: {"text", "sense"}.

    test: a file of the world, whose own sentences are taken; of any other text, those above.
    """
    found: dict[str, list[str]] = {sense: [] for sense in SENSES}
    for row in read_jsonl(test):
        if row.get("kind") == WORD:
            found["river" if BY_RIVER.search(row["text"]) else "money"].append(row["text"])
    chosen: Mapping[str, Sequence[str]] = found if all(found.values()) else SENTENCES
    return [{"text": text, "sense": sense} for sense in SENSES for text in chosen[sense][:MOST]]


def place_of(text: str) -> int:
    """Where the word begins in `text`, in characters."""
    match = re.search(rf"\b{WORD}\b", text)
    assert match is not None, f"no '{WORD}' in {text!r}"
    return match.start()


def told_apart(vectors: np.ndarray, senses: Sequence[str]) -> dict[str, Any]:
    """How well the vectors of the word tell its meanings, and a plane to draw them in.

    vectors: (sentences, width). Each is given the meaning whose other vectors' mean is nearest
    by cosine; equal vectors, as of a model that has one a word, are right by half. The plane
    is that of their two principal components.
    """
    given = [_nearest(vectors, senses, number) for number in range(len(senses))]
    score, interval = score_of([{"correct": value} for value in given], "accuracy")
    centred = vectors - vectors.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    plane = centred @ axes[:2].T
    return {
        "score": score,
        "interval": interval,
        "n": len(senses),
        "points": [[round(float(x), 4) for x in point] for point in plane],
        "senses": list(senses),
    }


def _nearest(vectors: np.ndarray, senses: Sequence[str], number: int) -> float:
    """1 if the vector of `number` is nearer to its own meaning, 1/2 if it cannot be told."""
    own = _unit(vectors[number])
    near = {}
    for sense in SENSES:
        others = [n for n, other in enumerate(senses) if other == sense and n != number]
        near[sense] = float(own @ _unit(_unit(vectors[others]).mean(0)))
    right = near[senses[number]]
    wrong = max(value for sense, value in near.items() if sense != senses[number])
    return 0.5 if np.isclose(right, wrong, atol=1e-6) else float(right > wrong)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, np.finfo(np.float32).tiny)
