"""Words and their vectors: what every embedding ends as, in a folder and in memory.

`words.json` and `model.safetensors` are kindling's own form; `vectors.txt` and `vectors.bin` are
word2vec's, which gensim and most tools open.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from components.lineage import read_json, write_json

WORDS, WEIGHTS, CONFIG = "words.json", "model.safetensors", "config.json"
TEXT, BINARY = "vectors.txt", "vectors.bin"


@dataclass(frozen=True)
class WordVectors:
    """words: the most frequent first. counts: of each in the training text, shape [words].
    matrix: a row a word, float32, shape [words, dimensions].
    """

    words: Sequence[str]
    counts: np.ndarray
    matrix: np.ndarray

    @cached_property
    def unit(self) -> np.ndarray:
        """The rows at length 1, so that products are cosines; shape [words, dimensions]."""
        lengths = np.linalg.norm(self.matrix, axis=1, keepdims=True)
        return self.matrix / np.maximum(lengths, np.finfo(np.float32).tiny)

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of a word in lower case: of several spellings, that of the most frequent."""
        return {self.words[row].lower(): row for row in reversed(range(len(self.words)))}

    def first(self, count: int) -> "WordVectors":
        """The `count` most frequent words alone."""
        return WordVectors(self.words[:count], self.counts[:count], self.matrix[:count])

    def nearest(
        self, direction: np.ndarray, leave_out: Sequence[int], count: int
    ) -> list[tuple[str, float]]:
        """The words whose vectors have the highest cosines with `direction`, those rows left out.

        direction: shape [dimensions]. Returns (word, cosine), the nearest first.
        """
        cosines = self.unit @ (direction / max(np.linalg.norm(direction), 1e-12))
        cosines[list(leave_out)] = -np.inf
        best = np.argsort(-cosines, kind="stable")[: min(count, len(cosines) - len(leave_out))]
        return [(self.words[row], float(cosines[row])) for row in best]


def save_words(words: Sequence[str], counts: np.ndarray, config: dict, out: Path) -> None:
    """Write the words of an embedding without vectors into `out`; see `open_words`."""
    write_json(out / CONFIG, config)
    write_json(out / WORDS, {"words": list(words), "counts": [int(count) for count in counts]})


def save_vectors(vectors: WordVectors, config: dict, out: Path) -> None:
    """Write `vectors` into `out` in all three forms, beside `config`."""
    from safetensors.numpy import save_file

    save_words(vectors.words, vectors.counts, config, out)
    save_file({"vectors": vectors.matrix}, out / WEIGHTS)
    _write_word2vec(vectors, out)


def _write_word2vec(vectors: WordVectors, out: Path) -> None:
    from gensim.models import KeyedVectors

    keyed = KeyedVectors(vectors.matrix.shape[1], dtype=np.float32)
    keyed.add_vectors(list(vectors.words), vectors.matrix)
    keyed.save_word2vec_format(str(out / TEXT), binary=False)
    keyed.save_word2vec_format(str(out / BINARY), binary=True)


def open_words(folder: Path) -> tuple[list[str], np.ndarray]:
    """The words of an embedding, the most frequent first, and the count of each, [words].

    Raises:
        ValueError: `folder` holds no embedding.
    """
    if not (folder / WORDS).is_file():
        raise ValueError(f"{folder} holds no embedding; run 'dvc repro embedding@{folder.name}'")
    held = read_json(folder / WORDS)
    return held["words"], np.array(held["counts"], np.int64)


def open_vectors(folder: Path) -> WordVectors:
    """What `save_vectors` wrote into `folder`.

    Raises:
        ValueError: `folder` holds no word vectors.
    """
    from safetensors.numpy import load_file

    words, counts = open_words(folder)
    if not (folder / WEIGHTS).is_file():
        raise ValueError(
            f"{folder} holds words without vectors, as one-hot ones need none; name another rung"
        )
    return WordVectors(words, counts, load_file(folder / WEIGHTS)["vectors"])
