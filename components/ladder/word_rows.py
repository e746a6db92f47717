"""The rows of a table of embeddings that stand for whole words: what is near a word in it?

Every rung is asked so, from word2vec to GPT; here those whose vocabulary is of parts of words.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.evaluation.neighbours import neighbours
from components.lineage import write_json
from components.models.word_vectors import WordVectors

if TYPE_CHECKING:
    import tokenizers
    import torch


def write_neighbours(engine: "tokenizers.Tokenizer", table: "torch.Tensor", out: Path) -> None:
    """Write the words near those of `neighbours.ASKED` that are one token, by `table`.

    table: (tokens, width).
    """
    write_json(
        out / "neighbours.json",
        neighbours(whole_words(engine, table.detach().float().cpu().numpy())),
    )


def whole_words(engine: "tokenizers.Tokenizer", table: np.ndarray) -> WordVectors:
    """The words that are one token where a space stands before them, in the vocabulary's order.

    table: (tokens, width). Nobody counted the words, so their counts are 0.
    """
    texts = [engine.decode([number]).strip() for number in range(engine.get_vocab_size())]
    encoded = engine.encode_batch_fast([f" {text}" for text in texts])
    rows = [
        number
        for number, (text, found) in enumerate(zip(texts, encoded, strict=True))
        if text.isalpha() and found.ids == [number]
    ]
    words = [texts[number] for number in rows]
    return WordVectors(words, np.zeros(len(rows), np.int64), table[rows])
