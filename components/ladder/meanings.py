"""Sentences of the same words that differ in who does what, and where their vectors lie."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from components.ladder.pairs import Vocabulary
from components.padding import padded

if TYPE_CHECKING:
    from components.models.seq2seq import Seq2Seq
    from components.models.transformer import Transformer

# (who is meant to act, sentence), after figure 2 of Sutskever et al. 2014
ORDERS = (
    ("man", "A man is watching a dog in the park."),
    ("man", "In the park, a man is watching a dog."),
    ("man", "A dog is watched by a man in the park."),
    ("man", "In the park, a dog is watched by a man."),
    ("dog", "A dog is watching a man in the park."),
    ("dog", "In the park, a dog is watching a man."),
    ("dog", "A man is watched by a dog in the park."),
    ("dog", "In the park, a man is watched by a dog."),
)
# of adjective and noun, which French turns round
REORDERED = (
    "A black dog is playing with a red ball.",
    "The old man is wearing a white shirt and black shoes.",
    "A young woman in a blue dress is sitting on a green bench.",
)
SHOWN = 3  # sentences of the world
VERBS = 4


def sentences_of(rows: Sequence[Mapping[str, Any]]) -> tuple[list[tuple[str, str]], list[str]]:
    """`ORDERS` and `REORDERED`; where `rows` are the world's pairs, the same of its own words."""
    if "alignment" not in rows[0]:
        return list(ORDERS), list(REORDERED)
    # the ADJECTIVE NOUN VERB the ADJECTIVE NOUN
    _, one, first, _, _, other, second = rows[0]["source"].split()
    verbs = list(dict.fromkeys(row["source"].split()[3] for row in rows))[:VERBS]
    pair = ((one, first), (other, second))
    orders = [
        (a[1], f"the {' '.join(a)} {verb} the {' '.join(b)}")
        for a, b in (pair, pair[::-1])
        for verb in verbs
    ]
    return orders, [row["source"] for row in rows[:SHOWN]]


@torch.no_grad()
def projection(
    model: "Seq2Seq | Transformer", vocabulary: Vocabulary, sentences: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """The vectors of (who acts, sentence) on their first two principal components.

    same: the share of sentences whose nearest other one has the same acting part; explained: the
    share of the variance that each component has.
    """
    actors, texts = zip(*sentences, strict=True)
    rows = [[*tokens, vocabulary.end] for tokens in vocabulary.encode(texts)]
    sources, _ = padded(rows, vocabulary.pad)
    vectors = model.sentence_vectors(sources).double().cpu().numpy()
    centred = vectors - vectors.mean(axis=0)  # (sentences, width)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    left *= np.sign(left[0])  # a component's sign is arbitrary: the first sentence is positive
    distance = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    nearest = distance.argmin(axis=1)
    points = np.round(left[:, :2] * sizes[:2], 4).tolist()
    return {
        "sentences": [
            {"text": text, "acts": acts, "point": point}
            for text, acts, point in zip(texts, actors, points, strict=True)
        ],
        "explained": np.round(sizes[:2] ** 2 / (sizes**2).sum(), 4).tolist(),
        "same": float(np.mean([actors[n] == actors[m] for n, m in enumerate(nearest)])),
    }
