"""The rows of a table of embeddings that stand for whole words: what is near a word in it?

Every rung is asked so, from word2vec to GPT; here those whose vocabulary is of parts of words.
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.evaluation.neighbours import neighbours
from components.lineage import write_json
from components.models.word_vectors import WordVectors
from components.tokenizer_kinds import UNKNOWN

if TYPE_CHECKING:
    import tokenizers
    import torch

WORD = re.compile(r"[^\W\d_]+")


def write_neighbours(
    engine: "tokenizers.Tokenizer", table: "torch.Tensor", texts: Iterable[str], out: Path
) -> None:
    """Write the words near those of `neighbours.ASKED`, of all in `texts` that are one token.

    table: (tokens, width).
    """
    rows = table.detach().float().cpu().numpy()
    write_json(out / "neighbours.json", neighbours(whole_words(engine, rows, texts)))


def whole_words(
    engine: "tokenizers.Tokenizer", table: np.ndarray, texts: Iterable[str]
) -> WordVectors:
    """The words of `texts` that are one token where a space stands before them, the most frequent
    first.

    table: (tokens, width).
    """
    counts = Counter(word for text in texts for word in WORD.findall(text))
    words = [word for word, _ in counts.most_common()]
    encoded = engine.encode_batch_fast([f" {word}" for word in words])
    own = {word: e.ids[0] for word, e in zip(words, encoded, strict=True) if len(e.ids) == 1}
    unknown = engine.token_to_id(UNKNOWN)
    own = {word: row for word, row in own.items() if row != unknown}
    found = np.array([counts[word] for word in own], np.int64)
    return WordVectors(list(own), found, table[list(own.values())])
