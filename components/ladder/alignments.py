"""Which source words a model looks at as it writes a target word, and how right that is."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from components.evaluation.metrics import bootstrap_interval
from components.ladder.pairs import Vocabulary

if TYPE_CHECKING:
    from components.models.seq2seq import Seq2Seq
    from components.models.transformer import Transformer


@torch.no_grad()
def word_weights(
    model: "Seq2Seq | Transformer", vocabulary: Vocabulary, source: str, target: str
) -> np.ndarray | None:
    """Weights of source words for target words, shape (layers, target, source); None without
    attention.

    A source word weighs what its tokens do together; a target word is the mean of its tokens.
    Each token's weights are those with which it was predicted.
    """
    (read, read_words), (written, written_words) = map(vocabulary.words, (source, target))
    weights = model.alignment(
        torch.tensor([[*read, vocabulary.end]]), torch.tensor([[vocabulary.end, *written]])
    )
    if weights is None:
        return None
    found = weights[0, :, : len(written), : len(read)].double().numpy()  # (layers, tokens, tokens)
    together = np.eye(max(read_words) + 1)[read_words]  # (source tokens, source words)
    mean = np.eye(max(written_words) + 1)[written_words]  # (target tokens, target words)
    return (mean / mean.sum(axis=0)).T @ found @ together


def heat_maps(
    model: "Seq2Seq | Transformer", vocabulary: Vocabulary, pairs: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """The words of each pair and the weights of one layer, for pictures; none without attention."""
    written = [pair for pair in pairs if pair[1].split()]
    found = [word_weights(model, vocabulary, *pair) for pair in written]
    if not found or found[0] is None:
        return []
    layer = most_decided(found)
    return [
        {
            "source": source.split(),
            "target": target.split(),
            "weights": np.round(weights[layer], 4).tolist(),
        }
        for (source, target), weights in zip(written, found, strict=True)
    ]


def most_decided(found: Sequence[np.ndarray]) -> int:
    """The layer whose largest weights are largest, of those of `word_weights`: which of a
    Transformer's layers aligns differs from model to model, and this asks for no gold links.
    """
    largest = np.concatenate([weights.max(axis=2) for weights in found], axis=1)  # (layers, words)
    return int(largest.mean(axis=1).argmax())


def alignment_error_rate(
    model: "Seq2Seq | Transformer", vocabulary: Vocabulary, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The error of linking each target word to the source word of most weight; None without
    attention.

    1 - 2 |A ∩ G| / (|A| + |G|) over all sentences, for links A and gold links G (Och & Ney 2003,
    section 6.1, where every gold link is sure). rows: {"source", "target", "alignment": pairs of
    word numbers}. Returns that of the `most_decided` layer with its interval, and of all layers.
    """
    found = [word_weights(model, vocabulary, row["source"], row["target"]) for row in rows]
    if found[0] is None:
        return None
    layer = most_decided(found)
    statistics = np.array(  # (sentences, layers, 2)
        [
            [_counts(of_layer, row["alignment"]) for of_layer in weights]
            for weights, row in zip(found, rows, strict=True)
        ],
        dtype=float,
    )
    chosen = statistics[:, layer]
    return {
        "score": float(error_rate(chosen.sum(axis=0))),
        "interval": [*bootstrap_interval(chosen, score=error_rate)],
        "n": len(rows),
        "layer": layer + 1,
        "by_layer": error_rate(statistics.sum(axis=0)).tolist(),
    }


def error_rate(sums: np.ndarray) -> np.ndarray:
    """From the sums of right links and of |A| + |G|, shape (..., 2)."""
    return 1 - 2 * sums[..., 0] / sums[..., 1]


def _counts(weights: np.ndarray, gold: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Right links, and |A| + |G|. weights: (target, source)."""
    links = {(int(source), target) for target, source in enumerate(weights.argmax(axis=1))}
    return len(links & {tuple(pair) for pair in gold}), len(links) + len(gold)
