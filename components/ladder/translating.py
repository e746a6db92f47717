"""Translating test sentences, and how good the translations are, also by the source's length."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from components.evaluation.metrics import score_of
from components.evaluation.text_scores import judge_texts, signature
from components.ladder.pairs import Vocabulary, spaced
from components.models.beam import beam_search, greedy
from components.padding import padded

if TYPE_CHECKING:
    from components.models.seq2seq import Seq2Seq
    from components.models.transformer import Transformer


BEAM, PENALTY = 4, 0.6  # Vaswani et al. 2017, section 6.1
SEARCHES: Mapping[str, Callable[..., list[list[int]]]] = {
    "greedy": greedy,
    "beam": partial(beam_search, width=BEAM, penalty=PENALTY),
}
METRICS = ("bleu", "chrf")
BATCH = 64  # sentences translated at once
SENTENCES = 1000  # of the test split, evenly spaced, for the figures of the whole
LENGTHS = ((1, 5), (6, 10), (11, 15), (16, 20), (21, 1000))  # words of a source, both ends in
OF_LENGTH = 200  # sentences of one length, evenly spaced: long ones are rare
LEAST = 20  # sentences of one length; of fewer BLEU says nothing


def judged_sentences(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows to judge by, each source once: {"id", "source", "reference", "words", "whole"}.

    whole: whether a row counts in the figures of the whole; others stand for their length alone.
    """
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:  # a sentence with several translations is judged by the first
        first.setdefault(row["source"], row)
    found = [
        {
            "id": number,
            "source": row["source"],
            "reference": row["target"],
            "words": len(row["source"].split()),
        }
        for number, row in enumerate(first.values())
    ]
    whole = {row["id"] for row in spaced(found, SENTENCES)}
    chosen = set(whole)
    for length in LENGTHS:
        chosen |= {row["id"] for row in spaced(of_length(found, length), OF_LENGTH)}
    return [{**row, "whole": row["id"] in whole} for row in found if row["id"] in chosen]


def of_length(rows: Sequence[Mapping[str, Any]], length: tuple[int, int]) -> list:
    return [row for row in rows if length[0] <= row["words"] <= length[1]]


def translate(
    model: "Seq2Seq | Transformer",
    vocabulary: Vocabulary,
    texts: Sequence[str],
    longest: int,
    search: str,
) -> tuple[list[str], int]:
    """The translations of `texts`, and how many of these were cut to `longest` tokens.

    search: a name of `SEARCHES`.
    """
    encoded = vocabulary.encode(texts)
    cut = sum(len(tokens) >= longest for tokens in encoded)
    order = sorted(range(len(texts)), key=lambda number: len(encoded[number]))
    written: list[str] = [""] * len(texts)
    for start in range(0, len(order), BATCH):
        numbers = order[start : start + BATCH]
        rows = [[*encoded[n][: longest - 1], vocabulary.end] for n in numbers]
        source, _ = padded(rows, vocabulary.pad)
        with torch.no_grad():
            found = SEARCHES[search](model, source, end=vocabulary.end, longest=longest)
        for number, text in zip(numbers, vocabulary.decode(found), strict=True):
            written[number] = text
    return written, cut


def scores(records: Sequence[Mapping[str, Any]], search: str) -> dict[str, dict[str, Any]]:
    """BLEU and chrF of the whole test set, with intervals and sacreBLEU's signatures."""
    whole = [record for record in records if record["whole"]]
    return {
        metric: {**_score(whole, search, metric), "signature": signature(metric)}
        for metric in METRICS
    }


def by_length(records: Sequence[Mapping[str, Any]], search: str) -> list[dict[str, Any]]:
    """BLEU of the sources of each length that has enough of them."""
    found = []
    for length in LENGTHS:
        rows = of_length(records, length)
        if len(rows) >= LEAST:
            words = sum(row["words"] for row in rows) / len(rows)
            found.append({"words": words, "length": list(length), **_score(rows, search, "bleu")})
    return found


def _score(records: Sequence[Mapping[str, Any]], search: str, metric: str) -> dict[str, Any]:
    predictions = [record[search] for record in records]
    references = [record["reference"] for record in records]
    judged = judge_texts(metric, predictions, references, "none")
    score, interval = score_of(judged, metric)
    return {"score": score, "interval": interval, "n": len(records)}
