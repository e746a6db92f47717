"""A vocabulary of the ladder: a tokenizer, trained on the texts of data sets."""

import shutil
from pathlib import Path

from components.corpus import build_corpus
from components.reporter import Reporter
from components.splits import SPLITS
from components.tokenizer import EmptyVocabulary, Tokenizer, train_tokenizer
from components.tokenizer_measures import measure_tokenizer


def make_vocabulary(
    block: Tokenizer, dataset: Path, out: Path, report: Reporter, also: Path | None = None
) -> dict[str, float]:
    """Train on the texts of `dataset`, and of `also` behind them, into `out`; of pairs on both
    sides; see `train_tokenizer`. Beside it stands what vocabularies are compared by; see
    `measure_tokenizer`.

    Raises:
        ValueError: a data set lacks a split, or the tokenizer cannot be trained on them.
    """
    parts = [dataset, *([also] if also else [])]
    corpus = out.with_name(f"{out.name}.corpus")
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir()
    try:
        for part in parts:
            _append(part, corpus, report)
        figures = train_tokenizer(block, corpus, out, report)
        return figures | measure_tokenizer(out, corpus, out, report)
    except EmptyVocabulary:  # which names a file of ours that is gone in a moment
        read = " and ".join(str(part / "train.jsonl") for part in parts)
        raise EmptyVocabulary(read, block.min_frequency) from None
    finally:
        shutil.rmtree(corpus, ignore_errors=True)


def _append(dataset: Path, corpus: Path, report: Reporter) -> None:
    """Put the documents of `dataset` behind those in the files of `corpus`."""
    part = corpus / dataset.name
    part.mkdir()
    build_corpus(dataset, part, report)
    for split in SPLITS:
        with (
            (part / f"{split}.jsonl").open("rb") as more,
            (corpus / f"{split}.jsonl").open("ab") as whole,
        ):
            shutil.copyfileobj(more, whole)
