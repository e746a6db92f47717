"""What it takes to spell the words that a vocabulary lacks.

A model with a token for the unknown says how probable *some* unknown word is, never which one: the
more words its vocabulary lacks, the better its figures look. Where each such word is spelled behind
the token, p(word) = p(unknown) x p(spelling), it is a model of any text (Mielke & Eisner 2019,
section 4, with a simpler speller), and its perplexity per word and bits per byte compare with those
of any other. What a tokenizer drops stays free: white space, and case where it reads lower case.
A text may write the token itself, as WikiText-2's does where its authors took a word out: that is
one more word that stands behind it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from components.lineage import read_jsonl
from components.tokenizer_kinds import UNKNOWN

if TYPE_CHECKING:
    import tokenizers

BATCH = 256  # documents encoded at once
EDGE = 256  # before a word's first byte and behind its last one
WRITTEN = 257  # the whole of a word that is the unknown token's own name
SYMBOLS = 258


class Speller:
    """A bigram over the bytes of words, each pair counted once more than it was seen (Laplace)."""

    def __init__(self, words: Iterable[str]) -> None:
        self._pairs: Counter[tuple[int, int]] = Counter()
        for word, times in Counter(words).items():
            for pair in _pairs(word):
                self._pairs[pair] += times
        self._firsts: Counter[int] = Counter()
        for (first, _), times in self._pairs.items():
            self._firsts[first] += times

    def nats(self, word: str) -> float:
        """-log p of the spelling of `word`, its end included."""
        return sum(
            math.log((self._firsts[pair[0]] + SYMBOLS) / (self._pairs[pair] + 1))
            for pair in _pairs(word)
        )


def _pairs(word: str) -> Iterator[tuple[int, int]]:
    return pairwise([EDGE, WRITTEN] if word == UNKNOWN else [EDGE, *word.encode(), EDGE])


def speller_of(engine: "tokenizers.Tokenizer", train: Path) -> Speller:
    """One that has learned to spell from the words of `train` that `engine` lacks."""
    texts = (row["text"] for row in read_jsonl(train))
    return Speller(word for words in unknown_words(engine, texts) for word in words)


def unknown_words(engine: "tokenizers.Tokenizer", texts: Iterable[str]) -> Iterator[Sequence[str]]:
    """For each text what its unknown tokens stand for, as often as they stand there: the pieces
    that `engine` lacks, and UNKNOWN where the text writes that.
    """
    number, waiting = engine.token_to_id(UNKNOWN), iter(texts)
    while batch := list(islice(waiting, BATCH)):
        for text, found in zip(batch, engine.encode_batch(batch), strict=True):
            spans = [s for s, own in zip(found.offsets, found.ids, strict=True) if own == number]
            yield [text[begin:end] for begin, end in spans]
