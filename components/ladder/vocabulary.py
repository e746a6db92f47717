"""A vocabulary of the ladder: a tokenizer, trained on the texts of a data set."""

import shutil
from pathlib import Path

from components.corpus import build_corpus
from components.reporter import Reporter
from components.tokenizer import Tokenizer, train_tokenizer
from components.tokenizer_measures import measure_tokenizer


def make_vocabulary(
    block: Tokenizer, dataset: Path, out: Path, report: Reporter
) -> dict[str, float]:
    """Train on the data set's texts, of pairs on both sides, into `out`; see `train_tokenizer`.
    Beside it stands what vocabularies are compared by; see `measure_tokenizer`.

    Raises:
        ValueError: `dataset` lacks a split, or the tokenizer cannot be trained on it.
    """
    corpus = out.with_name(f"{out.name}.corpus")
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir()
    try:
        build_corpus(dataset, corpus, report)
        figures = train_tokenizer(block, corpus, out, report)
        return figures | measure_tokenizer(out, corpus, out, report)
    finally:
        shutil.rmtree(corpus, ignore_errors=True)
