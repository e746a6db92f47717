"""GloVe a co-occurrence against gensim a word: `python bench/glove.py`.

One epoch each of gensim's word2vec and of GloVe, on one thread, on a text whose words follow Zipf's
law. Seconds are the processor's, so that other work beside it does not count. `shuffled` is GloVe
with its entries visited at random instead of tile by tile. `--json FILE` writes the figures.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from components.models.cooccurrence import count_pairs
from components.models.embedding import Glove, Word2Vec
from components.models.glove import GloveLearner
from components.models.word2vec import Word2VecLearner
from components.word_text import Text

DOCUMENT = 300  # words
MICRO = 1e6


def zipf(words: int, tokens: int) -> Text:
    """A text of `tokens` words, word n about 1 / n as often as the first."""
    shares = 1 / np.arange(1, words + 1)
    drawn = np.random.default_rng(0).choice(words, tokens, p=shares / shares.sum())
    counts = np.bincount(drawn, minlength=words)
    order = np.argsort(-counts, kind="stable")
    place = np.empty(words, np.int32)
    place[order] = np.arange(words, dtype=np.int32)
    offsets = np.append(np.arange(0, tokens, DOCUMENT), tokens)
    # every word must have occurred for gensim to know it
    return Text(
        [f"w{n}" for n in range(words)], np.maximum(counts[order], 1), place[drawn], offsets
    )


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def word2vec(text: Text, architecture: str, dimensions: int) -> float:
    """Microseconds a word."""
    block = Word2Vec(family="word2vec", architecture=architecture, dimensions=dimensions)
    learner = Word2VecLearner(block, text, seed=1)
    return MICRO * seconds(lambda: learner.epoch(0)) / len(text.rows)


def glove(text: Text, dimensions: int) -> dict[str, float]:
    """Microseconds an entry, in both orders, and to count the entries, a word."""
    count_pairs(text.rows[:9], np.array([0, 9]), len(text.words), 1)  # compiles
    counting = seconds(lambda: count_pairs(text.rows, text.offsets, len(text.words), 5))
    learner = GloveLearner(Glove(family="glove", dimensions=dimensions), text, seed=1)
    entries = len(learner.values)
    whole = learner.rows, learner.columns, learner.values
    learner.rows, learner.columns, learner.values = (part[:9] for part in whole)
    learner.epoch(0)  # compiles
    learner.rows, learner.columns, learner.values = whole
    tiled = seconds(lambda: learner.epoch(0))
    order = np.random.default_rng(0).permutation(entries)
    learner.rows, learner.columns, learner.values = (part[order] for part in whole)
    shuffled = seconds(lambda: learner.epoch(0))
    return {
        "entries": entries,
        "counting_a_word": MICRO * counting / len(text.rows),
        "glove_an_entry": MICRO * tiled / entries,
        "shuffled_an_entry": MICRO * shuffled / entries,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--words", type=int, default=30_000)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=100)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    text = zipf(given.words, given.tokens)
    table = {"words": given.words, "tokens": given.tokens, "dimensions": given.dimensions}
    for architecture in ("cbow", "skip_gram"):
        table[f"{architecture}_a_word"] = word2vec(text, architecture, given.dimensions)
    table |= glove(text, given.dimensions)
    table = {name: round(value, 4) for name, value in table.items()}
    print(json.dumps(table, indent=1))
    if given.json:
        given.json.write_text(json.dumps(table))


if __name__ == "__main__":
    main()
