"""Pairs of sentences as tokens of one vocabulary, and tokens as words again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from components.tokenizer import END, PAD, open_engine
from components.training.translation import Pair

if TYPE_CHECKING:
    import tokenizers

Item = TypeVar("Item")


@dataclass(frozen=True)
class Vocabulary:
    """One vocabulary for both languages. end: closes a sentence, and opens the one to write."""

    engine: "tokenizers.Tokenizer"
    end: int
    pad: int

    @property
    def size(self) -> int:
        return self.engine.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, without an end."""
        return [found.ids for found in self.engine.encode_batch_fast(list(texts))]

    def fits(self, longest: int, *texts: str) -> bool:
        """Whether each of `texts` has at most `longest` tokens, its end counted in."""
        return all(len(tokens) < longest for tokens in self.encode(texts))

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        texts = self.engine.decode_batch([list(row) for row in rows], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def words(self, text: str) -> tuple[list[int], list[int]]:
        """The tokens of `text`, and of each the number of its word; words stand between spaces."""
        found = self.engine.encode(text)
        ends = [len(text[:end].split()) - 1 for _, end in found.offsets]
        return found.ids, ends


def open_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of `folder`.

    Raises:
        ValueError: there is none, or it lacks a token for a sentence's end or for padding.
    """
    engine = open_engine(folder)
    end, pad = engine.token_to_id(END), engine.token_to_id(PAD)
    if end is None or pad is None:
        lacks = END if end is None else PAD
        raise ValueError(f"{folder} has no token {lacks}, which translation needs; use kind: bpe")
    return Vocabulary(engine, end, pad)


def encode(
    rows: Iterable[Mapping[str, Any]], vocabulary: Vocabulary, longest: int
) -> tuple[list[Pair], int]:
    """The pairs of {"source", "target"} rows, and how many were left out as too long.

    longest: tokens of a side at most, its end counted in.

    Raises:
        ValueError: a row is no pair, or none is short enough.
    """
    rows = list(rows)
    if strangers := [row for row in rows if "source" not in row or "target" not in row]:
        raise ValueError(
            f"{sorted(strangers[0])} is no pair; name the columns of the data set under source "
            "and target"
        )
    sides = [vocabulary.encode([row[side] for row in rows]) for side in ("source", "target")]
    end = vocabulary.end
    pairs = [
        Pair([*source, end], [end, *target, end])
        for source, target in zip(*sides, strict=True)
        if max(len(source), len(target)) < longest
    ]
    if not pairs:
        raise ValueError(f"none of {len(rows)} pairs has fewer than {longest} tokens a side")
    return pairs, len(rows) - len(pairs)


def spaced(rows: Sequence[Item], most: int) -> list[Item]:
    """At most so many of `rows`, evenly spaced."""
    count = min(most, len(rows))
    return [rows[number * len(rows) // count] for number in range(count)]
