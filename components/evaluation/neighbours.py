"""The question that every embedding is asked: which words are near this one? And a map of some."""

from collections.abc import Mapping, Sequence

import numpy as np

from components.models.word_vectors import WordVectors

ASKED = ("king", "woman", "paris", "bank", "good", "big", "horse", "january", "river", "seven")
NEAREST = 8  # words shown for each
# what the map shows, by group: words, and pairs whose directions should be alike
MAPPED: Mapping[str, Sequence[str]] = {
    "he and she": ("man woman", "king queen", "boy girl", "brother sister", "father mother"),
    "capitals": (
        *("france paris", "germany berlin", "italy rome", "spain madrid"),
        *("russia moscow", "egypt cairo"),
    ),
    "degrees": ("big bigger", "small smaller", "strong stronger", "rich richer"),
    "beasts": ("horse", "dog", "cat", "cow", "sheep", "lion", "wolf", "fox"),
    "months": ("january", "march", "april", "june", "september", "december"),
}
# a word of two meanings among words of each
AMONG: Mapping[str, Sequence[str]] = {
    "bank": ("bank",),
    "river": ("river", "stream", "shore", "lake", "water", "boats", "reeds", "rhine", "thames"),
    "money": ("money", "coins", "loan", "rent", "savings", "cash", "gold", "debt", "pounds"),
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

    groups: of words, or pairs of words with a space between. `pairs` numbers the words of those
    that are both known.
    """
    asked = [(name, text.split()) for name, texts in groups.items() for text in texts]
    known = [(name, word) for name, words in asked for word in words if word in vectors.rows]
    if len(known) < 3:
        return {"words": [], "pairs": [], "variance": []}
    points = vectors.unit[[vectors.rows[word] for _, word in known]].astype(np.float64)
    points -= points.mean(axis=0)
    left, sizes, _ = np.linalg.svd(points, full_matrices=False)
    flat = left[:, :2] * sizes[:2]
    flat *= np.where(flat[np.abs(flat).argmax(axis=0), [0, 1]] < 0, -1, 1)  # a sign of its own
    place = {word: number for number, (_, word) in enumerate(known)}
    pairs = [[place.get(word) for word in words] for _, words in asked if len(words) == 2]
    return {
        "words": [
            {"word": word, "group": name, "x": round(float(x), 6), "y": round(float(y), 6)}
            for (name, word), (x, y) in zip(known, flat, strict=True)
        ],
        "pairs": [pair for pair in pairs if None not in pair],
        "variance": [float(share) for share in sizes[:2] ** 2 / (sizes**2).sum()],
    }
