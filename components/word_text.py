"""Texts as rows of words, for what is learned from words alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from components.tokenizer import SPECIAL, open_engine, texts_of
from components.tokenizer_kinds import UNKNOWN

BATCH = 256  # documents encoded at once
NONE = -1


@dataclass(frozen=True)
class Text:
    """words: those that occur often enough, the most frequent first. counts: of each, [words].
    rows: the text as numbers of words, whatever else stands in it left out, int32, [words read].
    offsets: document n is `rows[offsets[n] : offsets[n + 1]]`, [documents + 1].
    """

    words: Sequence[str]
    counts: np.ndarray
    rows: np.ndarray
    offsets: np.ndarray

    def documents(self) -> Iterator[np.ndarray]:
        """The rows of each document."""
        for begin, end in zip(self.offsets, self.offsets[1:], strict=False):
            yield self.rows[begin:end]


def read_text(corpora: Sequence[Path], vocabulary: Path, min_count: int) -> Text:
    """The train split of `corpora` as the words of `vocabulary`.

    Left out are unknown words, punctuation, and words that occur less than `min_count` times: as
    in word2vec, what stands around them moves together.

    Raises:
        ValueError: `vocabulary` is no tokenizer, or no word is left.
    """
    engine = open_engine(vocabulary)
    tokens, lengths = _encoded(engine, corpora)
    names = [engine.id_to_token(number) or "" for number in range(engine.get_vocab_size())]
    counts = np.bincount(tokens, minlength=len(names))
    kept = [n for n, name in enumerate(names) if counts[n] >= min_count and _is_word(name)]
    if not kept:
        raise ValueError(
            f"{', '.join(map(str, corpora))}: no word of {vocabulary} occurs {min_count} times; "
            "lower min_count, or give it more text"
        )
    kept.sort(key=lambda number: (-counts[number], names[number]))
    row_of = np.full(len(names), NONE, np.int32)
    row_of[kept] = np.arange(len(kept))
    rows = row_of[tokens]
    within = np.concatenate([[0], np.cumsum(rows != NONE)])
    return Text(
        words=[names[number] for number in kept],
        counts=counts[kept],
        rows=rows[rows != NONE],
        offsets=within[np.concatenate([[0], np.cumsum(lengths)])],
    )


def _is_word(token: str) -> bool:
    return token not in (*SPECIAL, UNKNOWN) and any(letter.isalnum() for letter in token)


def _encoded(engine: object, corpora: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """All tokens, shape [tokens], and how many each document has, shape [documents]."""
    parts, lengths = [np.zeros(0, np.int32)], []
    for corpus in corpora:
        texts = texts_of(corpus, "train")
        while batch := list(islice(texts, BATCH)):
            found = [encoded.ids for encoded in engine.encode_batch_fast(batch)]
            lengths += map(len, found)
            parts.append(np.fromiter((i for ids in found for i in ids), np.int32))
    return np.concatenate(parts), np.array(lengths, np.int64)
