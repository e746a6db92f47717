"""What the heads of a Transformer's encoder look at, and one lookup with its numbers."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from components.ladder.pairs import Vocabulary
from components.models.transformer import Transformer

NEIGHBOURS = {"previous": -1, "next": 1}  # tokens away
PHRASE, ASKS, ANSWERS = "on the river bank", "bank", "river"
SHOWN = 4  # numbers of a vector


@torch.no_grad()
def roles(
    model: Transformer,
    vocabulary: Vocabulary,
    texts: Sequence[str],
    frequency: Counter[int],
    relations: Mapping[str, Sequence[tuple[int, int]]],
) -> dict[str, Any]:
    """How often each head of the encoder puts its largest weight where a role would (Voita et al.
    2019, section 5): on the token before or behind, on the sentence's rarest token, or on the word
    that stands in a relation to it. A sentence's end is not looked at.

    frequency: of tokens in training. relations: by name (from, to) word numbers, the same in all
    `texts`. Returns `shares`, by role (layers, heads); `chance`, the share of a head that looks
    anywhere; `confidence`, the mean of the largest weight (layers, heads); and `sentences`.
    """
    hits: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    chance: Counter[str] = Counter()
    confidence, tokens = 0.0, 0
    for text in texts:
        ids, words = vocabulary.words(text)
        weights = encoder_weights(model, ids, vocabulary.end)  # (layers, heads, tokens, tokens)
        largest = weights.argmax(axis=-1)  # (layers, heads, tokens)
        confidence = confidence + weights.max(axis=-1).sum(axis=-1)
        tokens += len(ids)
        for role, pairs in _expected(ids, words, frequency, relations).items():
            for place, wanted in pairs:
                hits[role] = hits[role] + np.isin(largest[:, :, place], wanted)
            asked[role] += len(pairs)
            chance[role] += sum(len(wanted) / len(ids) for _, wanted in pairs)
    return {
        "shares": {role: (hits[role] / asked[role]).tolist() for role in asked},
        "chance": {role: chance[role] / asked[role] for role in asked},
        "confidence": (confidence / tokens).tolist(),
        "sentences": len(texts),
    }


def encoder_weights(model: Transformer, ids: list[int], end: int) -> np.ndarray:
    """Self-attention of one sentence, its end left out as what is looked at and what looks."""
    _, _, seen = model.encode(torch.tensor([[*ids, end]]))
    return torch.cat(seen)[:, :, :-1, :-1].double().numpy()


def _expected(
    ids: Sequence[int],
    words: Sequence[int],
    frequency: Counter[int],
    relations: Mapping[str, Sequence[tuple[int, int]]],
) -> dict[str, list[tuple[int, list[int]]]]:
    """By role: tokens, and those that each of them looks at if a head plays it."""
    places = range(len(ids))
    found: dict[str, list[tuple[int, list[int]]]] = {
        role: [(n, [n + step]) for n in places if n + step in places]
        for role, step in NEIGHBOURS.items()
    }
    least = min(frequency[token] for token in ids)
    rarest = [n for n in places if frequency[ids[n]] == least]
    found["rarest"] = [(n, rarest) for n in places]
    of_word = {word: [n for n in places if words[n] == word] for word in words}
    for relation, pairs in relations.items():
        found[relation] = [(n, of_word[to]) for begin, to in pairs for n in of_word[begin]]
    return {role: pairs for role, pairs in found.items() if pairs}


@torch.no_grad()
def lookup(model: Transformer, vocabulary: Vocabulary) -> dict[str, Any]:
    """Self-attention of "on the river bank" as a soft dictionary lookup: the head in which "bank"
    looks most at "river", and what it computes there (Vaswani et al. 2017, section 3.2.1).

    Each vector is shown by its first numbers. scores: query · key / √dim of each token; weights:
    their softmax; output: the sum of weight x value.
    """
    ids, words = vocabulary.words(PHRASE)
    names = PHRASE.split()
    asks = max(n for n, word in enumerate(words) if names[word] == ASKS)
    answers = [n for n, word in enumerate(words) if names[word] == ANSWERS]
    source = torch.tensor([[*ids, vocabulary.end]])
    _, mask, seen = model.encode(source)
    looks = torch.cat(seen)[:, :, asks, answers].sum(dim=-1)  # (layers, heads)
    layer, head = divmod(int(looks.argmax()), looks.shape[1])
    states = model.embed(source)
    for before in model.encoder[:layer]:
        states, _ = before(states, mask)
    attention = model.encoder[layer].attention
    query = attention.asked(states)[0, head, asks]  # (dim,)
    keys, values = (part[0, head] for part in attention.offered(states))  # (tokens, dim)
    scores = keys @ query / math.sqrt(len(query))
    weights = scores.softmax(dim=0)
    return {
        "tokens": [*(vocabulary.decode([[token]])[0] for token in ids), "(end)"],
        "asks": asks,
        "layer": layer + 1,
        "head": head + 1,
        "dim": len(query),
        "query": _shown(query[:SHOWN]),
        "keys": _shown(keys[:, :SHOWN]),
        "values": _shown(values[:, :SHOWN]),
        "scores": _shown(scores),
        "weights": _shown(weights),
        "output": _shown((weights @ values)[:SHOWN]),
    }


def _shown(numbers: torch.Tensor) -> list:
    return np.round(numbers.double().numpy(), 4).tolist()
