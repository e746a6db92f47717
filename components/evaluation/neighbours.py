"""The question that every embedding is asked: which words are near this one? And a map of some."""

from collections.abc import Mapping, Sequence

import numpy as np

from components.models.word_vectors import WordVectors

ASKED = ("king", "woman", "paris", "bank", "good", "big", "horse", "january", "river", "seven")
NEAREST = 8  # words shown for each
# what the map shows: groups that the words of one should share, and pairs that should be parallel
MAPPED: Mapping[str, Sequence[str]] = {
    "he and she": ("man", "woman", "king", "queen", "boy", "girl", "brother", "sister"),
    "countries and capitals": (
        *("france", "paris", "germany", "berlin", "italy", "rome", "spain", "madrid"),
        *("russia", "moscow", "egypt", "cairo"),
    ),
    "degrees": ("big", "bigger", "small", "smaller", "strong", "stronger", "rich", "richer"),
    "beasts": ("horse", "dog", "cat", "cow", "sheep", "lion", "wolf", "fox"),
    "months": ("january", "march", "april", "june", "september", "december"),
    "kin": ("father", "mother", "son", "daughter", "uncle", "aunt"),
}


def neighbours(vectors: WordVectors, words: Sequence[str] = ASKED) -> dict[str, list]:
    """For each of `words` that is known its nearest others, as [word, cosine], in order."""
    rows = {word: vectors.rows[word] for word in words if word in vectors.rows}
    return {
        word: [list(pair) for pair in vectors.nearest(vectors.unit[row], [row], NEAREST)]
        for word, row in rows.items()
    }


def plane(vectors: WordVectors, groups: Mapping[str, Sequence[str]] = MAPPED) -> dict:
    """The known words of `groups` in the plane in which they differ most: principal components of
    their vectors at length 1 (Pearson 1901), each axis with its share of the variance.
    """
    found = [(name, word) for name, words in groups.items() for word in words]
    found = [(name, word) for name, word in found if word in vectors.rows]
    if len(found) < 3:
        return {"words": [], "variance": []}
    points = vectors.unit[[vectors.rows[word] for _, word in found]].astype(np.float64)
    points -= points.mean(axis=0)
    left, sizes, _ = np.linalg.svd(points, full_matrices=False)
    flat = left[:, :2] * sizes[:2]
    flat *= np.where(flat[np.abs(flat).argmax(axis=0), [0, 1]] < 0, -1, 1)  # a sign of its own
    words = [
        {"word": word, "group": name, "x": round(float(x), 6), "y": round(float(y), 6)}
        for (name, word), (x, y) in zip(found, flat, strict=True)
    ]
    return {"words": words, "variance": [float(s) for s in sizes[:2] ** 2 / (sizes**2).sum()]}
